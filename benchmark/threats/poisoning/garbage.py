"""Uploads that are not finite numbers."""

from __future__ import annotations

import math

import torch

from benchmark.errors import ConfigError
from benchmark.parameters import BelowOne
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class Garbage(ContributionThreat):
    """Attack that uploads NaN or infinity in every coordinate, to test whether a server checks its input.

    One such upload permanently destroys the plain mean and any rule that compares it with others without a check. It
    comes from implementations, not from a paper; byzfl has the infinite one.

    Args:
        value: ``nan``, ``inf`` or ``-inf``.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, value: str = "nan", fraction: BelowOne = 0.2, follows_exchange: bool = True) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.value = float(value)
        if math.isfinite(self.value):
            raise ConfigError(f"threat.value must be nan, inf or -inf, got {value}.")

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(torch.full_like(surface.own, self.value))
