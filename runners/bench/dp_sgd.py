"""Differentially private training: the sum of clipped per-sample gradients, compared with Opacus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runners.bench.measure import HotPath, Peer

if TYPE_CHECKING:
    import torch

BATCH, BOUND = 64, 1.0


def dp_sgd(device: str = "cpu") -> HotPath:
    """Time a DP-SGD step of the small ConvNet: layers' inputs and signals against one sample at a time.

    Floor: a forward pass and the signals back to all layers but the first, 2.1 million multiplications a sample, and
    the convolutions' gradients of every sample, 1.0 million more, whose sum plain SGD needs as well: 0.2 billion for
    the batch, 5 ms at 80 GFLOPS. As torch runs it, plain SGD takes 13 ms, a third of it max-pooling.
    """
    import torch

    from benchmark.models.convnet import ConvNet
    from benchmark.training.functional import Net
    from benchmark.training.per_sample import clipped_sum

    torch.manual_seed(0)
    module = ConvNet(shape=(1, 28, 28), num_classes=10, channels=(16, 32), hidden=64, activation="relu")
    net = Net(module.to(device))
    params, x, y = net.initial(), torch.rand(BATCH, 1, 28, 28).to(device), torch.randint(10, (BATCH,)).to(device)

    def fast() -> torch.Tensor:
        return clipped_sum(net, params, x, y, BOUND) / BATCH

    def plain() -> torch.Tensor:
        total = torch.zeros_like(params)
        for one, label in zip(x, y, strict=True):
            gradient = net.gradient(params, one[None], label[None])
            total += gradient * min(1.0, BOUND / gradient.norm().item())
        return total / BATCH

    def prepare() -> Callable[[], torch.Tensor]:
        import copy
        import warnings

        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer
        from torch.nn import functional as F

        module = GradSampleModule(copy.deepcopy(net.module))
        weights = list(module.parameters())
        optimizer = DPOptimizer(
            torch.optim.SGD(weights, lr=0.1), noise_multiplier=0.0, max_grad_norm=BOUND, expected_batch_size=BATCH
        )

        def step() -> torch.Tensor:
            optimizer.zero_grad()
            with warnings.catch_warnings():  # of its hook on the first layer, whose input needs no gradient
                warnings.simplefilter("ignore")
                F.cross_entropy(module(x), y).backward()
            optimizer.pre_step()  # clips, sums and divides; without noise, so that results compare
            return torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])

        return step

    return HotPath(fast, plain, 1e-4, f"batch of {BATCH}, ConvNet, 28x28x1", peer=Peer("opacus", prepare, 1e-4))


PATHS = {"dp_sgd": dp_sgd}
