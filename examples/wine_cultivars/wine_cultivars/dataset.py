"""The wines inside scikit-learn's wheel, a dataset from outside the suite."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.data.base import Source, Split, balanced_order
from benchmark.seeds import generator

VERSION = 1

TRAIN = 128


class WineCultivars(Source):
    """178 wines of three cultivars, 13 measurements each (UCI wine recognition data).

    The set has no train and test part: 128 class-balanced wines are the training pool, 50 the test pool, the same for
    every seed. Columns are scaled to [0, 1] by the training pool's ranges; test values outside are clipped.
    """

    kind = "tabular"
    SIZES = {"owner": 60, "attacker": 30, "public": 14, "calibration": 24, "test": 50}

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        """Return training pool and test pool, x (n, 13) in [0, 1], and the number of cultivars."""
        from sklearn.datasets import load_wine
        from sklearn.preprocessing import MinMaxScaler

        x, y = load_wine(return_X_y=True)
        order = balanced_order(torch.tensor(y), generator(0, "wine_cultivars.pools")).numpy()
        train, test = order[:TRAIN], order[TRAIN:]
        scaler = MinMaxScaler(clip=True).fit(x[train])

        def split(rows) -> Split:
            return Split(torch.tensor(scaler.transform(x[rows]), dtype=torch.float32), torch.tensor(y[rows]))

        return split(train), split(test), 3
