"""The digits inside scikit-learn's wheel: real data without a download."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.data.base import Source, Split, balanced_order
from benchmark.seeds import generator

VERSION = 1

TRAIN = 1300


class Digits(Source):
    """1,797 handwritten digits of 8x8 pixels (UCI optical recognition of handwritten digits, test part).

    The set has no train and test part of its own: 1,300 class-balanced samples are the training pool, 497 the test
    pool, the same for every seed.
    """

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        from sklearn.datasets import load_digits

        images, target = load_digits(return_X_y=True)
        x = torch.as_tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        everything = Split(x, torch.as_tensor(target, dtype=torch.int64))
        order = balanced_order(everything.y, generator(0, "digits.pools"))
        return everything[order[:TRAIN]], everything[order[TRAIN:]], 10
