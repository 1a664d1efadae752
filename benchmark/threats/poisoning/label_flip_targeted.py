"""Label flipping from one class to another."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.parameters import BelowOne, Index
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.settings.threat import Floor
from benchmark.threats.poisoning.data_poison import DataPoison, relabel

VERSION = 1


class LabelFlipTargeted(DataPoison):
    """Label flipping of every sample of class ``source`` to ``target``.

    Tolpegin et al., *Data Poisoning Attacks Against Federated Learning Systems*, ESORICS 2020. Success: the share of
    the source class's test samples predicted as the target.
    """

    headline = "attack_success"
    floor = Floor("attack_success", 0.3)

    def __init__(
        self,
        *,
        source: Index = 7,
        target: Index = 1,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange, adaptive=adaptive)
        if source == target:
            raise ConfigError(f"threat.source and threat.target must differ, both are {source}.")
        self.source, self.target = source, target

    def goal(self, test: Split, clean: Tensor) -> Split:
        source = test[test.y == self.source]
        return Split(source.x, torch.full_like(source.y, self.target))

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        return relabel(data, data.y == self.source, self.target)
