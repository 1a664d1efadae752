"""Base and helpers of attacks by poisoned training data."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from benchmark.data.base import Split
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)


class DataPoison(ContributionThreat):
    """Base of malicious parties that train as agreed, but on poisoned data, and upload the result."""

    family = "poisoning"
    surface = "training_data"

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(surface.own)


def random_rows(count: int, share: float, rng: torch.Generator) -> Bool[Tensor, " count"]:
    """Return a mask that is True for a random ``share`` of ``count`` rows."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[torch.randperm(count, generator=rng)[: round(share * count)]] = True
    return chosen


def relabel(data: Split, where: Bool[Tensor, " n"], label: int) -> Split:
    """Return the same samples with ``label`` in the rows ``where``."""
    y = data.y.clone()
    y[where] = label
    return Split(data.x, y, data.sensitive, data.group)
