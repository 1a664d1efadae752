"""Targeted label flipping by those owners who hold most of the class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.threats.poisoning.label_flip_targeted import LabelFlipTargeted

VERSION = 1


class ClassHolders(LabelFlipTargeted):
    """Knows who holds what: takes over the owners with the most samples of class ``source`` and labels these as
    ``target``. Where owners hold different classes, the others know little of the class (spec 08, section 7).
    """

    def __init__(self, *, source: int, target: int, fraction: float, follows_exchange: bool) -> None:
        super().__init__(
            source=source, target=target, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )

    def recruit(self, shares: Sequence[Split], order: Tensor) -> Tensor:
        held = torch.tensor([int((shares[party].y == self.source).sum()) for party in order.tolist()])
        return order[held.argsort(descending=True, stable=True)]
