"""Controls of poisoning: no malicious party, and a malicious majority."""

from __future__ import annotations

import torch

from benchmark.parameters import BelowOne
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)

VERSION = 1


class NoAttack(ContributionThreat):
    """Negative control without malicious parties: it shows the cost of the defense itself. Its accuracy drop is 0."""

    family = "poisoning"
    control = "negative"

    def __init__(self) -> None:
        super().__init__(fraction=0.0, follows_exchange=True)

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(surface.own)


class Takeover(ContributionThreat):
    """Positive control in which nearly all parties upload their own update with the opposite sign.

    No rule that compares parties with each other can withstand it.

    Args:
        fraction: share of the malicious parties, well above one half.
    """

    family = "poisoning"
    control = "positive"

    def __init__(self, *, fraction: BelowOne = 0.8) -> None:
        super().__init__(fraction=fraction, follows_exchange=True)

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(-surface.own)
