"""What attacks by poisoned training data have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)


class DataPoison(ContributionThreat):
    """Malicious parties that train as agreed, on poisoned data: they hand out what comes of it, update or model."""

    family = "poisoning"
    surface = "training_data"

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(surface.own)


def some(count: int, share: float, rng: torch.Generator) -> Tensor:
    """bool (count,), True for a random ``share`` of the rows."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[torch.randperm(count, generator=rng)[: round(share * count)]] = True
    return chosen


def relabel(data: Split, where: Tensor, label: int) -> Split:
    """The same samples with ``label`` in the rows ``where``, bool (n,)."""
    y = data.y.clone()
    y[where] = label
    return Split(data.x, y, data.sensitive, data.group)


def in_unit_interval(name: str, value: float) -> float:
    """``value`` as it is.

    Raises:
        ConfigError: it is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"threat.{name} must be in [0, 1], got {value}.")
    return value
