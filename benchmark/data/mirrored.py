"""Image sets with a private attribute independent of the task: whether an image is mirrored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmark.data.base import Source, Split
from benchmark.parameters import Sizes
from benchmark.seeds import generator

VERSION = 1


class Mirrored(Source):
    """Images of another set, each mirrored with probability 1/2, independent of its class.

    ``sensitive`` is 1 for a mirrored image. The draw is part of the data, the same for every seed.

    Args:
        of: the set to take the images from (its own sizes are not used).
        sizes: as for every :class:`~benchmark.data.base.Source`.
    """

    has_sensitive = True

    def __init__(self, *, of: Source, sizes: Sizes | None = None) -> None:
        super().__init__(sizes=sizes)
        self.of = of

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        train, test, num_classes = self.of.pools(root)
        return _mirror(train, "train"), _mirror(test, "test"), num_classes


def _mirror(pool: Split, part: str) -> Split:
    mirrored = torch.rand(len(pool), generator=generator(0, f"mirrored.{part}")) < 0.5
    x = pool.x.clone()
    x[mirrored] = x[mirrored].flip(-1)
    return replace(pool, x=x, sensitive=mirrored.long())
