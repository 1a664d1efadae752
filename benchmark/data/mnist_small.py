"""MNIST at half its resolution, for attacks on real images within minutes on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch.nn import functional as F

from benchmark.data.base import PRIVATE_SPLITS, Dataset, Split
from benchmark.data.torchvision_sets import MNIST
from benchmark.parameters import Count, Sizes

VERSION = 1


class SmallMNIST(MNIST):
    """MNIST averaged down to ``side`` x ``side`` pixels.

    Args:
        side: of the square image.
        sizes, download: as of :class:`MNIST`.
    """

    def __init__(self, *, sizes: Sizes | None = None, download: bool = False, side: Count = 16) -> None:
        super().__init__(sizes=sizes, download=download)
        self.side = side

    def load(self, root: Path | None, seed: int) -> Dataset:
        data = super().load(root, seed)
        smaller = {role: self._smaller(getattr(data, role)) for role in (*PRIVATE_SPLITS, "test")}
        return replace(data, **smaller)  # type: ignore[arg-type]

    def _training_pool(self, root: Path | None) -> Split:
        return self._smaller(super()._training_pool(root))

    def _smaller(self, split: Split) -> Split:
        if len(split) == 0:
            return replace(split, x=split.x.new_zeros(0, 1, self.side, self.side))
        return replace(split, x=F.interpolate(split.x, size=(self.side, self.side), mode="area"))
