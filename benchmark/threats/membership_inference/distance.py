"""Membership inference from how much of the release lies near the candidate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.statistics import comparable, principal_components, statistic_named

VERSION = 2


class DistanceMembership(ReleaseThreat):
    """Attack that scores candidates by one statistic of the release.

    Args:
        statistic: ``nearest`` (GAN-Leaks), ``calibrated``, ``ball``, ``density`` (DOMIAS) or ``correlation``, see
            :mod:`benchmark.threats.membership_inference.statistics`.
        space: ``pixels``, or ``components``: the first principal components of the adversary's own samples.
        components: number of components.
        adaptive: the reference is the mechanism's release of the adversary's samples under a key of its own instead of
            these samples, so that artefacts of the mechanism cancel.
    """

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.95)
    knowledge = frozenset({"attacker_data"})

    def __init__(
        self,
        *,
        statistic: str = "nearest",
        space: Literal["pixels", "components"] = "pixels",
        components: Count = 10,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.statistic, self.space, self.components = statistic_named(statistic), space, components
        if adaptive:
            self.knowledge = self.knowledge | {"refit"}

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        points, released = comparable(surface.candidates.x, surface.x)
        own = surface.refit(surface.attacker, "reference").x if self.adaptive else surface.attacker.x
        reference = comparable(points, own)[1]
        return MembershipScores(self.statistic(*self._mapped(points, released, reference)))

    def _mapped(self, points: Tensor, released: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.space == "pixels":
            return points, released, reference
        to_components = principal_components(reference, self.components)
        return to_components(points), to_components(released), to_components(reference)
