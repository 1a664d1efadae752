"""Tests that forms of a computation that only a GPU takes give the numbers of the CPU's form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmark import clock
from benchmark.models.base import average_pool
from benchmark.models.lstm import LSTM
from benchmark.threats.gradient_leakage import matching
from benchmark.threats.gradient_leakage.matching import Matcher, squared_distance, targets_of
from benchmark.training.adversarial_groups import soft_ber
from benchmark.training.sinkhorn import MixedCost, Sinkhorn, semi_debiased
from runners.sweep.process import prepare_torch
from tests.accelerator.pretended_device import PretendedDevice
from tests.accelerator.test_waits import upload_surface


@pytest.mark.parametrize("present", [(0, 1), (0,)])
def test_the_soft_error_of_groups_is_that_of_the_cpu(present: tuple[int, ...]) -> None:
    logits, groups = torch.randn(12, 2), torch.tensor(present).repeat(12 // len(present))
    with PretendedDevice(strict=True):
        there = soft_ber(logits.to("cuda"), groups.to("cuda"), 2).cpu()
    torch.testing.assert_close(there, soft_ber(logits, groups, 2))


def test_the_sinkhorn_loss_is_that_of_the_cpu() -> None:
    generated, real = torch.rand(12, 5), torch.rand(9, 5)
    transport = Sinkhorn(MixedCost(l2=1.0, l1=1.0), blur=0.05)

    def loss_and_slope(device: str) -> tuple[Tensor, Tensor]:
        x = generated.to(device).requires_grad_()
        loss = semi_debiased(transport, x, real.to(device), 2)
        return loss.detach().cpu(), torch.autograd.grad(loss, x)[0].cpu()

    with PretendedDevice(strict=True):
        there = loss_and_slope("cuda")
    torch.testing.assert_close(there, loss_and_slope("cpu"))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of the CPU's kernel under vmap
def test_an_lstm_has_gradients_of_gradients_and_of_single_samples_on_the_device() -> None:
    net, x = LSTM(shape=(2, 16), num_classes=3).eval(), torch.rand(4, 2, 16)
    with PretendedDevice(strict=True):
        net.to("cuda")
        point = x.to("cuda").requires_grad_()
        (slope,) = torch.autograd.grad(net(point).square().sum(), point, create_graph=True)
        assert torch.autograd.grad(slope.square().sum(), point)[0].is_cuda
        weights = {name: value.detach() for name, value in net.named_parameters()}

        def loss(weights: dict[str, Tensor], one: Tensor) -> Tensor:
            return functional_call(net, weights, (one[None],)).square().sum()

        assert all(part.is_cuda for part in vmap(grad(loss), in_dims=(None, 0))(weights, point.detach()).values())


def test_inversions_are_compared_in_parts_where_their_gradients_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    with PretendedDevice():
        surface = upload_surface()
        matcher = Matcher(surface, targets_of(surface, adaptive=False), distance=squared_distance)
        x, y = torch.rand(4, 1, 1, *surface.shape).to("cuda"), torch.full((4, 1, 1, 10), 0.1).to("cuda")
        whole = matcher.objective(x, y)
        calls: list[int] = []
        once = Matcher._objective
        monkeypatch.setattr(Matcher, "_objective", lambda self, *part: calls.append(len(part[0])) or once(self, *part))
        monkeypatch.setattr(matching, "VALUES_AT_ONCE", 3 * matcher.observed.shape[1])
        parts = matcher.objective(x, y)
    assert calls == [3, 1]
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("size", [(4, 4), (16, 16), (14, 14), (7, 7), (16,), (12,)])
def test_pooling_by_equal_windows_is_adaptive_pooling_to_the_last_bit(size: tuple[int, ...]) -> None:
    x = torch.rand(5, 3, *size, requires_grad=True)
    adaptive = torch.nn.AdaptiveAvgPool1d(2) if len(size) == 1 else torch.nn.AdaptiveAvgPool2d(2)
    module = average_pool(size, 2)
    found, wanted = module(x), adaptive(x)
    assert torch.equal(found, wanted)
    slopes = [torch.autograd.grad(pooled.square().sum(), x)[0] for pooled in (found, wanted)]
    assert torch.equal(*slopes)
    assert type(module) is type(adaptive) or all((length // 2).bit_count() == 1 for length in size)


def test_the_clock_waits_for_an_accelerator_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    before = clock.now()
    assert clock.now() >= before and not waited
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    clock.now()
    assert waited == [True]


def test_a_process_for_a_gpu_rounds_nothing_and_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, before = torch.get_num_threads(), (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic)
    torch.backends.cudnn.allow_tf32 = True
    try:
        prepare_torch(threads, "cuda:0")
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before
