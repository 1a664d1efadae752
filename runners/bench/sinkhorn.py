"""Entropic transport between two clouds, compared with geomloss's tensorised backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath, Peer, largest_relative

if TYPE_CHECKING:
    import torch

POINTS, DIMENSIONS, BLUR = 500, 784, 0.5


def sinkhorn(device: str = "cpu") -> HotPath:
    """Time the Sinkhorn divergence of two batches of 500 images and its gradient: densities against log-sums.

    Floor: inner products for the costs of three problems and two gradients, 500 * 500 * 784 multiplications each, 2
    GFLOP or 25 ms at 80 GFLOPS; in each of 10 steps one exponential a pair for the cross problem and, by symmetry, for
    each of the two others, 7.5 million at 0.5 ns: 4 ms.
    """
    import torch

    from benchmark.training.sinkhorn import MixedCost, Sinkhorn, diameter, divergence, schedule

    torch.manual_seed(0)
    x, y = torch.rand(POINTS, DIMENSIONS), 0.8 * torch.rand(POINTS, DIMENSIONS) + 0.2 * torch.rand(POINTS, 1)
    x, y = x.to(device), y.to(device)
    cost = MixedCost(l2=1.0, l1=0.0)
    transport = Sinkhorn(cost, BLUR)

    def softmin(reach: torch.Tensor, weight: float) -> torch.Tensor:
        return -weight * ((-reach / weight).logsumexp(dim=1) - math.log(POINTS))

    def by_log_sums(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        apart, start = cost(a, b), diameter(a, b).item()
        with torch.no_grad():
            f, g = softmin(apart, start), softmin(apart.T, start)
            for weight in schedule(start, BLUR, 0.5):
                f, g = (f + softmin(apart - g, weight)) / 2, (g + softmin(apart.T - f, weight)) / 2
            f, g = softmin(apart - g, BLUR), softmin(apart.T - f, BLUR)
            plan = ((f.unsqueeze(1) + g - apart) / BLUR).exp() / apart.numel()
        spent = (plan * apart).sum()
        return f.mean() + g.mean() + spent - spent.detach()

    def plain(a: torch.Tensor) -> torch.Tensor:
        return 2 * by_log_sums(a, y) - by_log_sums(a, a) - by_log_sums(y, y)

    def prepare() -> Callable[[], Any]:
        from geomloss import SamplesLoss

        def batched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.stack([cost(one, other) for one, other in zip(a, b, strict=True)])

        loss = SamplesLoss("sinkhorn", p=1, blur=BLUR, scaling=0.5, backend="tensorized", cost=batched)
        return lambda: _with_gradient(lambda a: 2 * loss(a[None], y[None]).sum(), x)

    def difference(ours: Any, theirs: Any) -> float:
        return max(largest_relative(a, b) for a, b in zip(ours, theirs, strict=True))

    return HotPath(
        lambda: _with_gradient(lambda a: divergence(transport, a, y), x),
        lambda: _with_gradient(plain, x),
        1e-3,
        f"2 x {POINTS} points of {DIMENSIONS} dimensions, value and gradient",
        difference,
        # geomloss differentiates a dual value, we the plan's cost: before convergence only values compare
        Peer("geomloss", prepare, 1e-4, lambda ours, theirs: largest_relative(ours[0], theirs[0])),
    )


def _with_gradient(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    held = x.detach().requires_grad_()
    value = loss(held)
    return value.detach(), torch.autograd.grad(value, held)[0]


PATHS = {"sinkhorn": sinkhorn}
