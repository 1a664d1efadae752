"""Targeted label flipping by the owners who hold most of the class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.parameters import BelowOne, Index
from benchmark.threats.poisoning.label_flip_targeted import LabelFlipTargeted

VERSION = 1


class ClassHolders(LabelFlipTargeted):
    """Adaptive label flipping by the owners with the most samples of class ``source``, which they label ``target``.

    Where owners hold different classes, the others know little of the class.
    """

    def __init__(
        self, *, source: Index = 7, target: Index = 1, fraction: BelowOne = 0.2, follows_exchange: bool = True
    ) -> None:
        super().__init__(
            source=source, target=target, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )

    def recruit(self, shares: Sequence[Split], order: Tensor) -> Tensor:
        held = torch.tensor([int((shares[party].y == self.source).sum()) for party in order.tolist()])
        return order[held.argsort(descending=True, stable=True)]
