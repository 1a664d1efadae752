"""Membership by how much of the release lies where the candidate is (M1 to M4 of the shared attack set)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.statistics import comparable, principal_components, statistic_named

VERSION = 1


class DistanceMembership(ReleaseThreat):
    """Scores candidates by one statistic of the release.

    Args:
        statistic: ``nearest`` (GAN-Leaks), ``calibrated``, ``ball`` or ``density`` (DOMIAS).
        space: ``pixels``, or ``components``: the first principal components of the adversary's own samples.
        components: how many.
        adaptive: the reference is not the adversary's own samples but what the mechanism makes of them under a key of
            the adversary's, so that artefacts of the mechanism cancel.
    """

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.95)
    knowledge = frozenset({"attacker_data"})

    def __init__(self, *, statistic: str, space: str, components: int, adaptive: bool) -> None:
        super().__init__(adaptive=adaptive)
        if space not in ("pixels", "components"):
            raise ConfigError(f"threat.space is pixels or components, not {space!r}.")
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
