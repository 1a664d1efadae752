"""Carlini and Wagner's L0 and L-infinity attacks: repeated descents under a constraint that tightens.

Carlini, Wagner, *Towards Evaluating the Robustness of Neural Networks*, S&P 2017 (arXiv 1608.04644), sections VI-B and
VI-C. Deviations: all inputs are one batch, each with its own constraint and c; a descent that fails continues from its
last point with twice the c; L0 freezes a share of the features that still differ in every round, not a number that
depends on the root of their count.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from benchmark.parameters import Count, NonNegative, Positive, Rate
from benchmark.threats.evasion.carlini_wagner import CarliniWagner
from benchmark.threats.evasion.objectives import Logits, margin

VERSION = 3
CHANGED = 1e-3  # L0 freezes features that changed by less than this at once


class Tightened(CarliniWagner):
    """Base that tightens the constraint of inputs that met their target and doubles c of the others.

    Args:
        rounds: descents.
        iterations, lr, initial_c, confidence, adaptive: as in
            :class:`~benchmark.threats.evasion.carlini_wagner.CarliniWagner`.
    """

    def __init__(
        self,
        *,
        iterations: Count,
        lr: Positive,
        initial_c: Positive,
        rounds: Count,
        confidence: NonNegative,
        adaptive: bool,
    ) -> None:
        super().__init__(iterations=iterations, lr=lr, initial_c=initial_c, confidence=confidence, adaptive=adaptive)
        self.rounds = rounds

    def search(self, logits: Logits, clean: Tensor, targets: Tensor) -> Tensor:
        best = clean.clone()
        c = torch.full((len(clean),), self.initial_c, device=clean.device)
        bound, start = self.loosest(clean), clean
        for _ in range(self.rounds):
            found, last = self.solve(logits, clean, targets, start, bound, c)
            with torch.no_grad():
                met = margin(logits(found), targets) <= -self.confidence
            met &= self.holds(found, clean, bound)
            best = torch.where(met.view(-1, *[1] * (clean.ndim - 1)), found, best)
            start = best.where(met.view(-1, *[1] * (clean.ndim - 1)), last)
            bound = self.tighten(logits, clean, targets, best, bound, met)
            c = c.where(met, 2 * c)
        return best

    @abstractmethod
    def loosest(self, clean: Tensor) -> Tensor:
        """Return the initial constraint, (n, ...)."""

    @abstractmethod
    def solve(
        self, logits: Logits, clean: Tensor, targets: Tensor, start: Tensor, bound: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return altered inputs that meet their target, and the last inputs of the descent from ``start``."""

    @abstractmethod
    def holds(self, found: Tensor, clean: Tensor, bound: Tensor) -> Tensor:
        """Return which inputs satisfy the constraint, bool (n,)."""

    @abstractmethod
    def tighten(
        self, logits: Logits, clean: Tensor, targets: Tensor, best: Tensor, bound: Tensor, met: Tensor
    ) -> Tensor:
        """Return the next constraint: tighter where ``met``, unchanged elsewhere."""


class CarliniWagnerL0(Tightened):
    """L0 attack that freezes the features with the smallest ``|g_i * delta_i|`` at their clean value in every round.

    Args:
        iterations, lr, initial_c, rounds, confidence, adaptive: as in :class:`Tightened`.
        freeze: share of the features that still differ which a round freezes, at least one feature; in (0, 1).
    """

    def __init__(
        self,
        *,
        iterations: Count = 1000,
        lr: Positive = 0.01,
        initial_c: Positive = 1.0,
        rounds: Count = 60,
        freeze: Rate = 0.1,
        confidence: NonNegative = 0.0,
        adaptive: bool = True,
    ) -> None:
        super().__init__(
            iterations=iterations,
            lr=lr,
            initial_c=initial_c,
            rounds=rounds,
            confidence=confidence,
            adaptive=adaptive,
        )
        self.freeze = freeze

    def loosest(self, clean: Tensor) -> Tensor:
        return torch.ones_like(clean)  # 1: the feature may change

    def solve(
        self, logits: Logits, clean: Tensor, targets: Tensor, start: Tensor, bound: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        latest = clean.clone()

        def keep(x: Tensor, meets: Tensor) -> None:
            latest.copy_(torch.where(meets.view(-1, *[1] * (x.ndim - 1)), x, latest))

        def penalty(x: Tensor, f: Tensor) -> Tensor:
            return (x - clean).flatten(1).square().sum(dim=1) + c * f

        def fixed(x: Tensor) -> Tensor:
            return x.where(bound > 0, clean)

        return latest, self.descend(logits, start, targets, penalty, keep, fixed)

    def holds(self, found: Tensor, clean: Tensor, bound: Tensor) -> Tensor:
        return ((found == clean) | (bound > 0)).flatten(1).all(dim=1)

    def tighten(
        self, logits: Logits, clean: Tensor, targets: Tensor, best: Tensor, bound: Tensor, met: Tensor
    ) -> Tensor:
        change = (best - clean).flatten(1).abs()
        at = best.clone().requires_grad_()
        (slope,) = torch.autograd.grad(margin(logits(at), targets).sum(), at)
        weight = change * slope.flatten(1).abs()
        free = (change > CHANGED) & (bound.flatten(1) > 0)
        order = weight.masked_fill(~free, torch.inf).argsort(dim=1).argsort(dim=1)
        count = (self.freeze * free.sum(dim=1)).ceil().clamp_max(free.sum(dim=1) - 1)
        kept = free & (order >= count.unsqueeze(1))
        return kept.to(bound).view_as(bound).where(met.view(-1, *[1] * (bound.ndim - 1)), bound)


class CarliniWagnerLinf(Tightened):
    """L-infinity attack that penalises ``sum max(|delta_i| - tau, 0)`` and shrinks tau after every success.

    Args:
        iterations, lr, initial_c, rounds, confidence, adaptive: as in :class:`Tightened`.
        shrink: factor on the largest change so far that gives the next tau, in (0, 1); 0.9 in the paper.
    """

    def __init__(
        self,
        *,
        iterations: Count = 1000,
        lr: Positive = 0.005,
        initial_c: Positive = 3.0,
        rounds: Count = 40,
        shrink: Rate = 0.9,
        confidence: NonNegative = 0.0,
        adaptive: bool = True,
    ) -> None:
        super().__init__(
            iterations=iterations,
            lr=lr,
            initial_c=initial_c,
            rounds=rounds,
            confidence=confidence,
            adaptive=adaptive,
        )
        self.shrink = shrink

    def loosest(self, clean: Tensor) -> Tensor:
        return torch.ones(len(clean), *[1] * (clean.ndim - 1), device=clean.device)

    def solve(
        self, logits: Logits, clean: Tensor, targets: Tensor, start: Tensor, bound: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        nearest, least = clean.clone(), torch.full((len(clean),), torch.inf, device=clean.device)

        def keep(x: Tensor, meets: Tensor) -> None:
            largest = (x - clean).flatten(1).abs().amax(dim=1)
            better = meets & (largest < least)
            nearest.copy_(torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, nearest))
            least.copy_(torch.where(better, largest, least))

        def penalty(x: Tensor, f: Tensor) -> Tensor:
            return ((x - clean).abs() - bound).clamp_min(0).flatten(1).sum(dim=1) + c * f

        return nearest, self.descend(logits, start, targets, penalty, keep)

    def holds(self, found: Tensor, clean: Tensor, bound: Tensor) -> Tensor:
        # An input nearer than all before it counts as progress, even if it did not reach tau.
        return (found - clean).flatten(1).abs().amax(dim=1) < bound.flatten(1).squeeze(1) / self.shrink + 1e-6

    def tighten(
        self, logits: Logits, clean: Tensor, targets: Tensor, best: Tensor, bound: Tensor, met: Tensor
    ) -> Tensor:
        largest = (best - clean).flatten(1).abs().amax(dim=1).view_as(bound)
        return (self.shrink * largest).where(met.view_as(bound), bound)
