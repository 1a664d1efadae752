"""Digits with fewer classes, to vary the number of outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.parameters import Sizes

VERSION = 1


class GroupedDigits(Digits):
    """The digits of :class:`Digits`, in which digit y becomes class y modulo ``classes``.

    Args:
        classes: 2 to 10.
    """

    def __init__(self, *, sizes: Sizes | None = None, classes: Annotated[int, Ge(2), Le(10)] = 5) -> None:
        super().__init__(sizes=sizes)
        self.classes = classes

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        train, test, _ = super().pools(root)
        return replace(train, y=train.y % self.classes), replace(test, y=test.y % self.classes), self.classes
