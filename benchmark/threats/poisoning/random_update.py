"""Random updates: uploads of pure noise."""

from __future__ import annotations

import torch

from benchmark.parameters import BelowOne, NonNegative
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class RandomUpdate(ContributionThreat):
    """Attack that uploads N(0, std^2) in each coordinate in place of the own update.

    Blanchard, El Mhamdi, Guerraoui, Stainer, *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*,
    NeurIPS 2017, section 5: the "Gaussian" adversary, there with std 200.

    Args:
        std: in gradient units.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, std: NonNegative = 4.0, fraction: BelowOne = 0.2, follows_exchange: bool = True) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.std = std

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(self.std * normal_like(surface.own, rng))
