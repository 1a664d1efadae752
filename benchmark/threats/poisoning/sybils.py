"""Sybils: one adversary with little data behind many owners."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.parameters import BelowOne, Count, Fraction, Index
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.threats.poisoning.badnets import BadNets
from benchmark.threats.poisoning.data_poison import random_rows

VERSION = 1


class Sybils(BadNets):
    """Adaptive backdoor by one adversary that appears as several owners where votes count owners and not samples.

    Each malicious owner brings only a share of the samples that an honest owner has, stamped as in :class:`BadNets`.

    Args:
        keep: share of an owner's samples that each malicious owner brings, in (0, 1].
    """

    def __init__(
        self,
        *,
        keep: Fraction = 0.2,
        target: Index = 7,
        size: Count = 4,
        share: Fraction = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(
            target=target, size=size, share=share, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )
        self.keep = keep

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        kept = random_rows(len(data), self.keep, rng).to(data.y.device)
        return super().poison_data(data[kept], party, rng)
