"""Backdoor combined with an attack on the filter that judges models by common validation samples."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.parameters import BelowOne, Count, Fraction, Index
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.threats.poisoning.badnets import BadNets

VERSION = 1


class ValidationPoison(BadNets):
    """Adaptive backdoor whose malicious owners also mislabel all their validation samples (y + 1).

    Honest models then fail the filter, while backdoored models keep their votes. Each sample costs every honest model
    one hit; the number of owners needed to push an accuracy p below the threshold phi follows from p (m - t) / m < phi.
    """

    def __init__(
        self,
        *,
        target: Index = 7,
        size: Count = 4,
        share: Fraction = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(
            target=target, size=size, share=share, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )

    def poison_validation(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        return Split(data.x, (data.y + 1) % party.num_classes, data.sensitive, data.group)
