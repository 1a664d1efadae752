"""Tests that the pretended device says what CUDA says: each rule is broken once and kept once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F

from tests.accelerator.pretended_device import (
    DEVICE,
    NO_NUMPY,
    STRAY_GENERATOR,
    STRAY_INDEX,
    TWO_DEVICES,
    DeviceError,
    DeviceTypeError,
    PretendedDevice,
)

RULES: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "sum": (lambda g, c: g + c, TWO_DEVICES),
    "sum the other way": (lambda g, c: c + g, TWO_DEVICES),
    "in place": (lambda g, c: c.add_(g), TWO_DEVICES),
    "product": (lambda g, c: g @ c.T, TWO_DEVICES),
    "cat": (lambda g, c: torch.cat([g, c]), TWO_DEVICES),
    "stack of scalars": (lambda g, c: torch.stack([g.sum(), c.sum()]), TWO_DEVICES),
    "where": (lambda g, c: torch.where(c > 0, g, g), TWO_DEVICES),
    "linear": (lambda g, c: F.linear(g, torch.ones(4, 3)), TWO_DEVICES),
    "gather": (lambda g, c: g.gather(0, torch.zeros(1, 3, dtype=torch.int64)), TWO_DEVICES),
    "index_select": (lambda g, c: g.index_select(0, torch.tensor([0])), TWO_DEVICES),
    "loss": (lambda g, c: F.cross_entropy(g, torch.tensor([0, 1])), TWO_DEVICES),
    "isin": (lambda g, c: torch.isin(g, torch.tensor([1.0])), TWO_DEVICES),
    "vmap": (lambda g, c: vmap(lambda row: row + torch.ones(3))(g), TWO_DEVICES),
    "scalar of the CPU written to": (lambda g, c: torch.tensor(1.0).add_(g.sum()), TWO_DEVICES),
    "values of the CPU put by index": (lambda g, c: g.__setitem__(torch.tensor([0]), torch.ones(3)), TWO_DEVICES),
    "values of the GPU put by index": (lambda g, c: c.__setitem__(torch.tensor([0]), g[0]), TWO_DEVICES),
    "index of the GPU": (lambda g, c: c[torch.tensor([1]).to("cuda")], STRAY_INDEX),
    "factory": (lambda g, c: torch.randn(3, generator=torch.Generator(), device="cuda"), STRAY_GENERATOR),
    "multinomial": (lambda g, c: torch.multinomial(g, 1, generator=torch.Generator()), STRAY_GENERATOR),
    "normal_": (lambda g, c: g.clone().normal_(generator=torch.Generator()), STRAY_GENERATOR),
    "numpy": (lambda g, c: g.numpy(), NO_NUMPY),
    "asarray": (lambda g, c: np.asarray(g), NO_NUMPY),
    "integers": (lambda g, c: g.long() @ g.long().T, "not implemented"),
}
if torch.version.cuda is not None:  # a build without CUDA does not know which kernels it lacks
    RULES["no kernel"] = (lambda g, c: torch.histogram(g, 3), "Could not run 'aten::histogram")


@pytest.fixture
def device() -> Iterator[PretendedDevice]:
    with PretendedDevice(strict=True) as pretended:
        yield pretended
    assert torch.ones(3).device.type == "cpu"


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_raises(device: PretendedDevice, rule: str) -> None:
    breaks, message = RULES[rule]
    on_gpu, on_cpu = torch.arange(6.0).view(2, 3).to("cuda"), torch.ones(2, 3)
    with pytest.raises((DeviceError, DeviceTypeError)) as caught:
        breaks(on_gpu, on_cpu)
    assert message in str(caught.value)
    assert device.faults[0].place.startswith("tests/accelerator/test_rules.py:")


def test_tensors_say_where_they_are(device: PretendedDevice) -> None:
    g, c = torch.arange(6.0).view(2, 3).to("cuda"), torch.ones(2, 3)
    assert {g.device, g.T.device, (g * 2).device, g[0].device, copy.deepcopy(g).device} == {DEVICE}
    assert c.device.type == "cpu" and not g.cpu().is_cuda and g.cpu().numpy().shape == (2, 3)
    assert torch.zeros_like(g).is_cuda and not torch.zeros_like(g, device="cpu").is_cuda
    assert g.new_zeros(3).is_cuda and g.new_tensor([1]).is_cuda and not c.new_tensor([1]).is_cuda
    assert torch.tensor([1], device=g.device).is_cuda and torch.ones(3, device="cuda").is_cuda
    assert torch.randn(3, generator=torch.Generator()).to("cuda").is_cuda
    assert g.to(c).device.type == "cpu" and g.to(torch.float64).is_cuda and c.to(g.double()).dtype == torch.float64


def test_cuda_takes_scalars_and_indices_of_the_cpu(device: PretendedDevice) -> None:
    g, c = torch.arange(6.0).view(2, 3).to("cuda"), torch.ones(2, 3)
    assert (
        (g + torch.tensor(2.0)).is_cuda and (torch.tensor(2.0) * g).is_cuda and g.clamp(min=torch.tensor(1.0)).is_cuda
    )
    assert torch.where(g > 1, torch.tensor(0.0), g).is_cuda
    assert g[torch.tensor([1])].is_cuda and g[torch.tensor([True, False])].is_cuda
    g[torch.tensor([0])] = 5.0
    g[torch.tensor([0])] = torch.tensor(3.0)
    g[0] = torch.ones(3)
    g.copy_(c)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning")  # torch's own, in forward mode
def test_modules_gradients_and_functional_transforms_stay_on_the_device(device: PretendedDevice) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3)
    )
    net.to("cuda").eval()
    assert nn.Linear(2, 2).to(torch.ones(1, device="cuda")).weight.is_cuda
    x, y = torch.rand(4, 1, 8, 8, device="cuda"), torch.tensor([0, 1, 2, 0], device="cuda")
    for optimizer in (torch.optim.Adam(net.parameters()), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)):
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.is_cuda for parameter in net.parameters())
    net.load_state_dict({name: value.cpu() for name, value in net.state_dict().items()})
    assert all(parameter.is_cuda for parameter in copy.deepcopy(net).parameters())

    def loss(weights: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, weights, (sample[None],)), label[None])

    weights = {name: value.detach() for name, value in net.named_parameters()}
    assert all(part.is_cuda for part in vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, y).values())
    value, tangent = jvp(lambda point: point.sin().sum(), (x,), (x,))
    assert value.is_cuda and tangent.is_cuda
    twice = torch.rand(3, device="cuda", requires_grad=True)
    first = torch.autograd.grad((twice**3).sum(), twice, create_graph=True)[0]
    assert torch.autograd.grad(first.sum(), twice)[0].is_cuda
    leaf = torch.rand(3, requires_grad=True)
    (leaf.to("cuda") * 2).sum().backward()
    assert leaf.grad is not None and not leaf.grad.is_cuda


def test_waits_of_the_host_are_counted(device: PretendedDevice) -> None:
    g = torch.arange(6.0).view(2, 3).to("cuda")
    waits: list[Callable[[], Any]] = [
        *(
            lambda: g.sum().item(),
            lambda: float(g.sum()),
            lambda: bool(g.sum() > 0),
            lambda: g.tolist(),
            lambda: g.cpu(),
        ),
        *(
            lambda: g[g > 1],
            lambda: g.nonzero(),
            lambda: g[torch.tensor([0])],
            lambda: torch.tensor([1], device="cuda"),
        ),
    ]
    for act in waits:
        before = device.waited
        act()
        assert device.waited == before + 1
    before = device.waited
    index = torch.zeros(1, dtype=torch.int64, device="cuda")
    g[index], (g * 2).sum(), torch.where(g > 1, g, 0.0), F.one_hot(index, 3)
    assert device.waited == before and device.kernels > 10


def test_cudnn_refuses_what_its_recurrent_kernels_lack(device: PretendedDevice) -> None:
    lstm, x = nn.LSTM(3, 4, batch_first=True).to("cuda").eval(), torch.rand(2, 5, 3, device="cuda")
    with pytest.raises(DeviceError, match="training mode"):
        lstm(x)
    with torch.no_grad():
        assert lstm(x)[0].is_cuda
    with torch.backends.cudnn.flags(enabled=False):
        assert lstm(x)[0].is_cuda


def test_operations_without_a_deterministic_kernel_are_noted(device: PretendedDevice) -> None:
    g = torch.rand(2, 3, device="cuda")
    g.median(), g.sort(dim=0)
    assert not device.unrepeatable
    g.median(dim=0)
    assert [operation for _, operation in device.unrepeatable] == ["median.dim"]
