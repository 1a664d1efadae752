"""Gaussian noise on every parameter of malicious participants' models."""

from __future__ import annotations

import torch

from benchmark.parameters import BelowOne, NonNegative
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.games.contributions import Contribution, ContributionSurface, ContributionThreat
from benchmark.settings.threat import Floor

VERSION = 1


class GaussianPoison(ContributionThreat):
    """Untargeted attack that adds N(0, std^2) to every coordinate of the own update.

    Jebreel et al. 2024 (fragmented federated learning), table III.

    Args:
        std: in gradient units (the noise on a model divided by the local learning rate).
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, std: NonNegative = 4.0, fraction: BelowOne = 0.2, follows_exchange: bool = True) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.std = std

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(surface.own + self.std * normal_like(surface.own, rng))
