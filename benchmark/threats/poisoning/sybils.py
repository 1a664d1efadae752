"""One adversary with little data behind many owners."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.threats.poisoning.badnets import BadNets
from benchmark.threats.poisoning.data_poison import in_unit_interval, some

VERSION = 1


class Sybils(BadNets):
    """Knows that votes count owners and not samples: the malicious owners are one adversary, each of whose identities
    brings only a share of the samples that an honest owner has, stamped as in :class:`BadNets` (spec 08, section 7).

    Args:
        keep: share of an owner's samples that each identity brings, in (0, 1].
    """

    def __init__(
        self, *, keep: float, target: int, size: int, share: float, fraction: float, follows_exchange: bool
    ) -> None:
        super().__init__(
            target=target, size=size, share=share, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )
        self.keep = in_unit_interval("keep", keep)

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        kept = some(len(data), self.keep, rng).to(data.y.device)
        return super().poison_data(data[kept], party, rng)
