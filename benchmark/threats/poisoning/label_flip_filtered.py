"""Label flipping that stays just good enough for a filter."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.threats.poisoning.data_poison import in_unit_interval
from benchmark.threats.poisoning.label_flip import LabelFlip

VERSION = 1


class LabelFlipFiltered(LabelFlip):
    """Knows the filter's threshold phi: flips whole classes, and only so many of them that the model stays right on
    about phi + margin of the samples; without a filter it flips everything.

    A flipped model that never exceeds phi is dropped and harms nobody; this one keeps its vote and is wrong wherever
    the filter lets it be (our adaptive form of spec 08's untargeted flip).

    Args:
        margin: by which the share of untouched labels exceeds the threshold, in [0, 1].
    """

    def __init__(self, *, margin: float, fraction: float, follows_exchange: bool) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange, adaptive=True)
        self.margin = in_unit_interval("margin", margin)

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        phi = party.published.filter_threshold
        if phi is None or phi < 0:
            return super().poison_data(data, party, rng)
        honest = min(party.num_classes, round((phi + self.margin) * party.num_classes + 0.5))
        # All malicious owners leave the same classes alone: the first ones.
        flipped = Split(data.x, party.num_classes - 1 - data.y, data.sensitive, data.group)
        return Split(data.x, torch.where(data.y < honest, data.y, flipped.y), data.sensitive, data.group)
