"""Sign flipping: updates that ascend the loss."""

from __future__ import annotations

import torch

from benchmark.parameters import BelowOne
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class SignFlip(ContributionThreat):
    """Attack that uploads u = -scale * own.

    Li et al., *RSA: Byzantine-Robust Stochastic Aggregation Methods*, AAAI 2019.

    Args:
        scale: 1 flips only the sign; larger values also outweigh the honest parties.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, scale: float = 5.0, fraction: BelowOne = 0.2, follows_exchange: bool = True) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.scale = scale

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(-self.scale * surface.own)
