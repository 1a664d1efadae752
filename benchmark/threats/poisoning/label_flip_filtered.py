"""Label flipping that stays just accurate enough to pass a filter."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.parameters import BelowOne, Fraction
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.threats.poisoning.label_flip import LabelFlip

VERSION = 1


class LabelFlipFiltered(LabelFlip):
    """Adaptive label flipping of whole classes that keeps a model just above the filter's threshold phi.

    The model stays right on about phi + margin of the samples; without a filter all classes are flipped. A flipped
    model that never exceeds phi is dropped and does no harm; this one keeps its vote and is wrong wherever the filter
    allows it (our adaptive form of the untargeted flip).

    Args:
        margin: by which the share of untouched labels exceeds the threshold, in [0, 1].
    """

    def __init__(self, *, margin: Fraction = 0.1, fraction: BelowOne = 0.2, follows_exchange: bool = True) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange, adaptive=True)
        self.margin = margin

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        phi = party.published.filter_threshold
        if phi is None or phi < 0:
            return super().poison_data(data, party, rng)
        honest = min(party.num_classes, round((phi + self.margin) * party.num_classes + 0.5))
        # All malicious owners leave the same classes, the first ones, unflipped.
        flipped = Split(data.x, party.num_classes - 1 - data.y, data.sensitive, data.group)
        return Split(data.x, torch.where(data.y < honest, data.y, flipped.y), data.sensitive, data.group)
