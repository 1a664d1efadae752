"""Digits with fewer classes, to vary the number of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.errors import ConfigError

VERSION = 1


class GroupedDigits(Digits):
    """The digits of :class:`Digits`, in which digit y becomes class y modulo ``classes``.

    Args:
        classes: 2 to 10.
    """

    def __init__(self, *, sizes: Mapping[str, int | None] | None = None, classes: int = 5) -> None:
        super().__init__(sizes=sizes)
        if not 2 <= classes <= 10:
            raise ConfigError(f"dataset.classes must be 2 to 10, got {classes}.")
        self.classes = classes

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        train, test, _ = super().pools(root)
        return replace(train, y=train.y % self.classes), replace(test, y=test.y % self.classes), self.classes
