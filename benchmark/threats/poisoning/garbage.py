"""Uploads that are no numbers."""

from __future__ import annotations

import math

import torch

from benchmark.errors import ConfigError
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class Garbage(ContributionThreat):
    """Hands out NaN or infinity in every coordinate: whether a server checks what it gets.

    One such upload makes the plain mean, and any rule that compares it with others carelessly, useless for good. An
    implementation's attack rather than a paper's; byzfl has the infinite one.

    Args:
        value: ``nan``, ``inf`` or ``-inf``.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, value: str, fraction: float, follows_exchange: bool) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.value = float(value)
        if math.isfinite(self.value):
            raise ConfigError(f"threat.value must be nan, inf or -inf, got {value}.")

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(torch.full_like(surface.own, self.value))
