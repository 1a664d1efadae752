"""Entropic optimal transport between two small point clouds, in the log domain.

Source: Feydy et al., AISTATS 2019 (epsilon scaling, symmetric updates); Cao et al., NeurIPS 2021 (costs, semi-debiased
loss; arXiv 2111.01177, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Cost = Callable[[Tensor, Tensor], Tensor]
"""(n, d), (m, d) -> (n, m)."""


@dataclass(frozen=True)
class MixedCost:
    """``l2 * |u - v|_2^2 + l1 * |u - v|_1``, summed over the coordinates. No (n, m, d) tensor is kept."""

    l2: float
    l1: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        cost = torch.zeros(len(x), len(y), dtype=x.dtype, device=x.device)
        if self.l2:
            squares = x.square().sum(dim=1, keepdim=True) + y.square().sum(dim=1) - 2 * x @ y.T
            cost = cost + self.l2 * squares.clamp_min(0)
        if self.l1:
            cost = cost + self.l1 * torch.cdist(x, y, p=1)
        return cost


@dataclass(frozen=True)
class Sinkhorn:
    """``W(x, y) = min_P <P, C> + blur * KL(P || uniform)`` for uniform weights, with its gradient.

    The gradient is that of ``<P, C>`` with the optimal plan held fixed (envelope theorem); iterations are not unrolled.

    Attributes:
        cost: between two clouds.
        blur: weight of the entropy, in units of the cost.
        scaling: factor by which the weight falls, iteration by iteration, from the clouds' diameter down to ``blur``;
            nearer to 1 is more exact.
        settle: further iterations at ``blur``; the published code makes none.
    """

    cost: Cost
    blur: float
    scaling: float = 0.5
    settle: int = 0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The transport cost, ()."""
        cost = self.cost(x, y)
        with torch.no_grad():
            f, g = self.potentials(cost, diameter(x, y))
            plan = ((f.unsqueeze(1) + g.unsqueeze(0) - cost) / self.blur).exp() / cost.numel()
            value = f.mean() + g.mean()
        spent = (plan * cost).sum()
        return value + spent - spent.detach()

    def potentials(self, cost: Tensor, start: float) -> tuple[Tensor, Tensor]:
        """Dual potentials (n,) and (m,) of the cost (n, m), after one last update that does not average."""
        f, g = _softmin(cost, start), _softmin(cost.T, start)
        for weight in schedule(start, self.blur, self.scaling) + self.settle * [self.blur]:
            f, g = (f + _softmin(cost - g, weight)) / 2, (g + _softmin(cost.T - f, weight)) / 2
        return _softmin(cost - g, self.blur), _softmin(cost.T - f, self.blur)


def semi_debiased(transport: Sinkhorn, generated: Tensor, real: Tensor, extra: int) -> Tensor:
    """``2 W(X[:n], Y) - W(X[:n], X[n':])`` with n' = ``extra`` (Cao et al., section 3.2).

    Args:
        generated: (n + n', d); with n' = 0 the loss is biased, with n' = n debiased with independent samples.
        real: (m, d).
    """
    first, second = generated[: len(generated) - extra], generated[extra:]
    return 2 * transport(first, real) - transport(first, second)


def divergence(transport: Sinkhorn, x: Tensor, y: Tensor) -> Tensor:
    """``2 W(x, y) - W(x, x) - W(y, y)``, at least 0 and 0 for equal clouds."""
    return 2 * transport(x, y) - transport(x, x) - transport(y, y)


def diameter(x: Tensor, y: Tensor) -> float:
    """Diagonal of the bounding box of both clouds: a scale to start from."""
    low = torch.minimum(x.amin(dim=0), y.amin(dim=0))
    high = torch.maximum(x.amax(dim=0), y.amax(dim=0))
    return (high - low).norm().item()


def schedule(start: float, blur: float, scaling: float) -> list[float]:
    """Weights of the entropy: ``start``, falling by ``scaling`` while above ``blur``, and ``blur``."""
    if start <= blur:
        return [blur]
    falls = math.ceil(math.log(blur / start) / math.log(scaling))
    return [start, *(start * scaling**i for i in range(falls)), blur]


def _softmin(cost: Tensor, weight: float) -> Tensor:
    """``-weight * log mean_j exp(-cost_ij / weight)``, (n,)."""
    return -weight * ((-cost / weight).logsumexp(dim=1) - math.log(cost.shape[1]))
