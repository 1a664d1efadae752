"""Entropic optimal transport between two small point clouds, in the log domain.

Feydy et al., AISTATS 2019 (epsilon scaling, symmetric updates); Cao et al., NeurIPS 2021 (costs, semi-debiased
loss; arXiv 2111.01177, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Cost = Callable[[Tensor, Tensor], Tensor]
"""Function of points (n, d) and (m, d) that returns costs (n, m)."""

SMALL, LARGE = 1e-25, 1e30
"""Means of float32 exponentials between these are exact: terms that underflow beside them are negligible."""


@dataclass(frozen=True)
class MixedCost:
    """Cost ``l2 * |u - v|_2^2 + l1 * |u - v|_1``, summed over the coordinates, without an (n, m, d) tensor."""

    l2: float
    l1: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        parts = []
        if self.l2:
            products = torch.addmm(y.square().sum(dim=1), x, y.T, alpha=-2)
            parts.append(self.l2 * (products + x.square().sum(dim=1, keepdim=True)).clamp_min(0))
        if self.l1:
            parts.append(self.l1 * torch.cdist(x, y, p=1))
        return sum(parts, start=x.new_zeros(()).expand(len(x), len(y)))


@dataclass(frozen=True)
class Sinkhorn:
    """Transport cost ``W(x, y) = min_P <P, C> + blur * KL(P || uniform)`` for uniform weights, with its gradient.

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

    def __call__(self, x: Tensor, y: Tensor, start: float | None = None) -> Tensor:
        """Return the transport cost, (). For x and y the same tensor, symmetry halves the work.

        Args:
            start: the clouds' diameter, where it is known already.
        """
        symmetric = x is y
        cost = self.cost(x, y.detach() if symmetric else y)
        with torch.no_grad():
            start = diameter(x, y).item() if start is None else start
            f, g = self.potentials(cost, start, symmetric=symmetric)
            value = f.mean() + g.mean()
            plan = _density(cost, f, g, self.blur).div_(cost.numel())
        spent = (plan * cost).sum() * (2 if symmetric else 1)  # twice the gradient in the first argument: that in both
        return value + spent - spent.detach()

    def potentials(self, cost: Tensor, start: float, *, symmetric: bool = False) -> tuple[Tensor, Tensor]:
        """Return dual potentials (n,) and (m,) of the cost (n, m), after one last update without averaging."""
        both = cost.new_zeros(len(cost) if symmetric else sum(cost.shape))
        both = both + _shift(cost, both, start)
        for weight in schedule(start, self.blur, self.scaling) + self.settle * [self.blur]:
            both = both + _shift(cost, both, weight) / 2
        both = both + _shift(cost, both, self.blur)
        return both[: len(cost)], both[-cost.shape[1] :]


def semi_debiased(
    transport: Sinkhorn, generated: Float[Tensor, "n d"], real: Float[Tensor, "m d"], extra: int
) -> Float[Tensor, ""]:
    """Return ``2 W(X[:n], Y) - W(X[:n], X[n':])`` with n' = ``extra`` (Cao et al., section 3.2).

    Args:
        generated: (n + n', d); with n' = 0 the loss is biased, with n' = n debiased with independent samples.
        real: (m, d).
    """
    first = generated[: len(generated) - extra]
    second = generated[extra:] if extra else first
    # Both are read at once: each reading makes the host wait for a GPU.
    starts = torch.stack([diameter(first, real), diameter(first, second)]).tolist()
    return 2 * transport(first, real, starts[0]) - transport(first, second, starts[1])


def divergence(transport: Sinkhorn, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Return ``2 W(x, y) - W(x, x) - W(y, y)``, at least 0 and 0 for equal clouds."""
    return 2 * transport(x, y) - transport(x, x) - transport(y, y)


@torch.no_grad()
def diameter(x: Tensor, y: Tensor) -> Tensor:
    """Return the diagonal of the bounding box of both clouds, (), the initial scale."""
    low = torch.minimum(x.amin(dim=0), y.amin(dim=0))
    high = torch.maximum(x.amax(dim=0), y.amax(dim=0))
    return (high - low).norm()


def schedule(start: float, blur: float, scaling: float) -> list[float]:
    """Return weights of the entropy: ``start``, falling by ``scaling`` while above ``blur``, then ``blur``."""
    if start <= blur:
        return [blur]
    falls = math.ceil(math.log(blur / start) / math.log(scaling))
    return [start, *(start * scaling**i for i in range(falls)), blur]


def _density(cost: Tensor, f: Tensor, g: Tensor, weight: float) -> Tensor:
    """Return ``exp((f_i + g_j - cost_ij) / weight)``, (n, m).

    It is computed to base 2: torch's ``exp`` takes ten times as long where results underflow, as most of these do.
    """
    return torch.sub(g, cost).add_(f.unsqueeze(1)).mul_(1 / (weight * math.log(2))).exp2_()


def _shift(cost: Tensor, both: Tensor, weight: float) -> Tensor:
    """Return the increments of f (n,) and g (m,), concatenated in ``both``, by an update without averaging.

    ``-weight * log mean_j exp((f_i + g_j - cost_ij) / weight)`` for f and the same over i for g. Both use one
    density, whose means are near 1 where f and g fit; where a mean would overflow or lose its largest terms, every row
    and column is scaled by its own maximum. For a symmetric cost ``both`` may hold f alone, which equals g. On a GPU
    they always are, since to read the means would take longer than the scaling.
    """
    rows, columns = cost.shape
    f, g = both[:rows], both[-columns:]
    if not cost.is_cuda:
        density = _density(cost, f, g, weight)
        means = density.mean(dim=1)
        if len(both) > rows:
            means = torch.cat([means, density.mean(dim=0)])
        low, high = means.aminmax()
        if low.item() > SMALL and high.item() < LARGE:
            return -weight * means.log()
    exponents = [(g - cost + f.unsqueeze(1)) / weight]
    if len(both) > rows:
        exponents.append(exponents[0].T)
    return -weight * torch.cat([part.logsumexp(dim=1) - math.log(part.shape[1]) for part in exponents])
