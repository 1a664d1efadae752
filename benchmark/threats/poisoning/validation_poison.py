"""A backdoor together with an attack on the filter that judges models by common validation samples."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.threats.poisoning.badnets import BadNets

VERSION = 1


class ValidationPoison(BadNets):
    """Knows the filter: the malicious owners' validation samples carry wrong labels throughout (y + 1), so that honest
    models fail it while the votes of backdoored ones are spared (spec 08, ``validation-poisoning``).

    Each sample costs every honest model a hit; how many owners it takes to push an accuracy p below the threshold phi
    follows from p (m - t) / m < phi.
    """

    def __init__(self, *, target: int, size: int, share: float, fraction: float, follows_exchange: bool) -> None:
        super().__init__(
            target=target, size=size, share=share, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )

    def poison_validation(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        return Split(data.x, (data.y + 1) % party.num_classes, data.sensitive, data.group)
