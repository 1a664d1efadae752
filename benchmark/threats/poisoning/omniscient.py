"""Base of attacks in which all malicious parties send the honest mean plus one perturbation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.metrics.distances import diameter
from benchmark.parameters import BelowOne, Positive
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor


class OmniscientPoison(ContributionThreat):
    """Base of attacks that upload mu + g p: mu is the honest mean, p a direction, g a strength.

    The adaptive form runs the defense on candidate uploads and takes the strength, out of the subclass's own and those
    in ``distances``, at which the aggregate ends up farthest from mu (Shejwalkar, Houmansadr, *Manipulating the
    Byzantine*, NDSS 2021, equation 1: the attack tailored to the aggregation rule).

    Args:
        distances: lengths of g p that the adaptive form tries, as multiples of the honest updates' diameter.
        fraction, follows_exchange, adaptive: as in :class:`ContributionThreat`.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)
    knowledge = frozenset({"updates"})

    def __init__(
        self, *, distances: Sequence[Positive], fraction: BelowOne, follows_exchange: bool, adaptive: bool
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange, adaptive=adaptive)
        self.distances = tuple(distances)

    @abstractmethod
    def direction(self, honest: Tensor) -> Tensor:
        """Return p (d,) for the honest updates (n, d)."""

    @abstractmethod
    def strength(self, honest: Tensor, direction: Tensor, surface: ContributionSurface) -> float:
        """Return g by the formula of the attack's paper."""

    def known_updates(self, surface: ContributionSurface) -> Tensor:
        """Return the honest updates that the adversary knows; its own where nobody else takes part."""
        return surface.honest if len(surface.honest) else surface.own

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        known = self.known_updates(surface)
        mean, direction = known.mean(dim=0), self.direction(known)
        strength = self.strength(known, direction, surface)
        if self.adaptive:
            scale = diameter(known) / float(direction.norm().clamp_min(1e-20))
            candidates = [strength, *(distance * scale for distance in self.distances)]
            strength = farthest(surface, mean, direction, candidates)
        update = mean + strength * direction
        return Contribution(update.expand_as(surface.own), diagnostics={"strength": strength})


def farthest(
    surface: ContributionSurface, mean: Float[Tensor, " d"], direction: Float[Tensor, " d"], candidates: Iterable[float]
) -> float:
    """Return the strength at which the server's aggregate ends up farthest from ``mean``."""

    def damage(strength: float) -> float:
        mine = (mean + strength * direction).expand_as(surface.own)
        return float((surface.server(mine, surface.honest) - mean).norm())

    return max(candidates, key=damage)
