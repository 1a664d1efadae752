"""Controls of membership attacks on a release: the truth, and a release without any candidate."""

from __future__ import annotations

import torch

from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface
from benchmark.threats.membership_inference.statistics import comparable, statistic_named

VERSION = 2


class KnowsMembers(ReleaseThreat):
    """Positive control: the truth itself, which no mechanism can change."""

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    control = "positive"
    knowledge = frozenset({"truth"})

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        return MembershipScores(surface.members.double(), threshold=0.5)


class DisjointRelease(ReleaseThreat):
    """Negative control: an attack on the same mechanism's release of other people, the adversary's own samples.

    Its AUC must be 0.5 within three standard errors (about sqrt(1 / (6 n)) for n members and n others). If it is not,
    members and non-members differ by more than membership, and the other attacks prove nothing.

    Args:
        statistic: of the attack that is controlled.
    """

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    control = "negative"
    knowledge = frozenset({"attacker_data", "refit", "public"})

    def __init__(self, *, statistic: str = "nearest") -> None:
        super().__init__()
        self.statistic = statistic_named(statistic)

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        release = surface.refit(surface.attacker, "reference").x
        points, released = comparable(surface.candidates.x, release)
        scores = self.statistic(points, released, surface.public.x.flatten(start_dim=1))
        error = (1 / (6 * len(points) / 2)) ** 0.5
        return MembershipScores(scores, diagnostics={"auc_standard_error": error})
