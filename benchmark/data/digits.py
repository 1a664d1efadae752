"""The digits inside scikit-learn's wheel: real data without a download."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmark.data.base import Source, Split, balanced_order
from benchmark.seeds import generator

VERSION = 1

TRAIN = 1300


class Digits(Source):
    """1,797 handwritten digits of 8x8 pixels (UCI optical recognition of handwritten digits, test part).

    The set has no train and test part: 1,300 class-balanced samples are the training pool, 497 the test pool, the same
    for every seed.
    """

    SIZES = {"owner": 700, "attacker": 300, "public": 100, "calibration": 200, "test": 497}

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        images, target = _read()
        x = torch.as_tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        everything = Split(x, torch.tensor(target, dtype=torch.int64))
        order = balanced_order(everything.y, generator(0, "digits.pools"))
        return everything[order[:TRAIN]], everything[order[TRAIN:]], 10


@cache
def _read() -> tuple[np.ndarray, np.ndarray]:
    """Return values from 0 to 16, float64 (1797, 64), and classes (1797,), parsed once per process in 20 ms."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)
