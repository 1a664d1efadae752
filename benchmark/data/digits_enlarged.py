"""scikit-learn's digits, enlarged for experiments that need more than 64 pixels and no download."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.parameters import Count, Sizes

VERSION = 1


class EnlargedDigits(Digits):
    """Digits of ``side`` x ``side`` pixels, enlarged bilinearly.

    Raises:
        ConfigError: ``side`` is not a positive number of pixels.
    """

    SIZES = {"owner": 150, "attacker": 50, "public": 300, "calibration": 800, "test": 397}

    def __init__(self, *, sizes: Sizes | None = None, side: Count = 24) -> None:
        super().__init__(sizes=sizes)
        self.side = side

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        train, test, classes = super().pools(root)
        return self._enlarged(train), self._enlarged(test), classes

    def _enlarged(self, split: Split) -> Split:
        return replace(split, x=F.interpolate(split.x, (self.side, self.side), mode="bilinear", align_corners=False))
