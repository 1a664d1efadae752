"""The bounds of poisoning: nobody is malicious, and nearly everybody is."""

from __future__ import annotations

import torch

from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)

VERSION = 1


class NoAttack(ContributionThreat):
    """Nobody is malicious: the row that says what a defense costs by itself. Its accuracy drop is 0."""

    family = "poisoning"
    control = "negative"

    def __init__(self) -> None:
        super().__init__(fraction=0.0, follows_exchange=True)

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(surface.own)


class Takeover(ContributionThreat):
    """Nearly all parties climb instead of descending, each by its own update turned around: more than any rule that
    judges parties by each other can stand.

    Args:
        fraction: share of the parties that do so; well above one half.
    """

    family = "poisoning"
    control = "positive"

    def __init__(self, *, fraction: float) -> None:
        super().__init__(fraction=fraction, follows_exchange=True)

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(-surface.own)
