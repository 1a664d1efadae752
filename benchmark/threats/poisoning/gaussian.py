"""Gaussian noise on every parameter of malicious participants' models (the untargeted attack of spec 09)."""

from __future__ import annotations

import torch

from benchmark.seeds import normal_like
from benchmark.settings.collaboration.games.contributions import Contribution, ContributionSurface, ContributionThreat
from benchmark.settings.threat import Floor

VERSION = 1


class GaussianPoison(ContributionThreat):
    """Adds N(0, std^2) to the own update.

    Args:
        std: in gradient units (a model's noise over the local learning rate).
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, std: float, fraction: float, follows_exchange: bool) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.std = std

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(surface.own + self.std * normal_like(surface.own, rng))
