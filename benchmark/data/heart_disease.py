"""UCI heart disease: patients of four hospitals, as split in the Detectron paper or by hospital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.data.archives import Wanted, arrays
from benchmark.data.base import Dataset, Source, Split, balanced_order, digest, file_in_root
from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Sizes
from benchmark.seeds import generator

VERSION = 1

FOLDER = "heart_disease"
PARTS = ("train", "val", "iid_test", "ood_test")
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
FEATURES = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang")
"""Columns that most hospitals filled in; the paper uses the same nine."""
CHOLESTEROL, DIAGNOSIS = FEATURES.index("chol"), 13
TEST_SHARE = 0.25


class HeartDetectron(Source):
    """Split on which the Detectron paper's UCI rows were computed, the same for every seed.

    ``owner`` holds 358 training patients of Cleveland and Hungary, ``calibration`` their 120 for validation, ``test``
    their 119 unseen ones; the shifted population is 323 patients of Switzerland and the VA. Features are as published,
    not scaled. Sizes are fixed.
    """

    kind = "tabular"
    shift = "natural"

    def __init__(self) -> None:
        super().__init__(sizes={})

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        found = _read(root)
        return _part(found, "train"), _part(found, "iid_test"), 2

    def load(self, root: Path | None, seed: int) -> Dataset:
        found = _read(root)
        owner, calibration, test, shifted = (_part(found, name) for name in PARTS)
        empty = owner[:0]
        return Dataset(
            name="heart_detectron",
            owner=owner,
            attacker=empty,
            public=empty,
            calibration=calibration,
            test=test,
            num_classes=2,
            digest=digest([owner, calibration, test, shifted]),
            shifted=shifted,
        )


class HeartSites(Source):
    """Patients of some hospitals, with those of all others as the shifted population; made from the raw files.

    The label is whether any narrowing was found. Missing values (``?``, and a cholesterol of 0) become the median of
    the training pool, and features are standardised by the training pool. A quarter of the patients, the same for
    every seed, is the test pool.

    Args:
        train_on: hospitals of the training data, some of :data:`HOSPITALS`.
    """

    SIZES = {"owner": 300, "attacker": 0, "public": 0, "calibration": 140, "test": None}

    kind = "tabular"
    shift = "natural"

    def __init__(self, *, sizes: Sizes | None = None, train_on: Sequence[str] = ("cleveland", "hungarian")) -> None:
        super().__init__(sizes=sizes)
        unknown = set(train_on) - set(HOSPITALS)
        if unknown or not train_on or set(train_on) == set(HOSPITALS):
            raise ConfigError(f"dataset.train_on takes some, not all, of {list(HOSPITALS)}, got {list(train_on)}.")
        self.train_on = sorted(train_on)

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        train, test = self._halves(root)
        return self._clean(train, train), self._clean(test, train), 2

    def shifted_pool(self, root: Path | None) -> Split:
        others = [name for name in HOSPITALS if name not in self.train_on]
        return self._clean(np.concatenate([_hospital(root, name) for name in others]), self._halves(root)[0])

    def _halves(self, root: Path | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the raw rows of the training and of the test pool."""
        rows = np.concatenate([_hospital(root, name) for name in self.train_on])
        order = balanced_order(torch.from_numpy(rows[:, DIAGNOSIS] > 0).long(), generator(0, "heart.pools")).numpy()
        held_out = int(len(rows) * TEST_SHARE)
        return rows[order[held_out:]], rows[order[:held_out]]

    @staticmethod
    def _clean(rows: np.ndarray, train: np.ndarray) -> Split:
        def features(table: np.ndarray) -> np.ndarray:
            known = table[:, : len(FEATURES)].copy()
            known[known[:, CHOLESTEROL] == 0, CHOLESTEROL] = np.nan
            return known

        reference = features(train)
        median = np.nanmedian(reference, axis=0)
        filled = np.where(np.isnan(reference), median, reference)
        spread = filled.std(axis=0)
        if not (np.isfinite(rows[:, DIAGNOSIS]).all() and np.isfinite(spread).all() and spread.all()):
            raise DataMissing(
                f"A column of {FOLDER}/processed.*.data is empty or constant for these hospitals; get the files of UCI "
                "again, or name others in dataset.train_on."
            )
        x = features(rows)
        x = (np.where(np.isnan(x), median, x) - filled.mean(axis=0)) / spread
        return Split(torch.as_tensor(x, dtype=torch.float32), torch.from_numpy(rows[:, DIAGNOSIS] > 0).long())


def _hospital(root: Path | None, name: str) -> np.ndarray:
    """Return the rows (patients, 14) of one hospital's file, NaN for ``?``."""
    file = _file(root, "heart_sites", f"processed.{name}.data")
    try:
        table = np.genfromtxt(file, delimiter=",", missing_values="?", dtype=np.float64)
    except ValueError as error:
        raise DataMissing(f"{file} is not the UCI file of that name: {error}") from error
    if table.ndim != 2 or table.shape[1] != DIAGNOSIS + 1 or np.isinf(table).any():
        raise DataMissing(f"{file} is not the UCI file of that name: expected {DIAGNOSIS + 1} columns of numbers.")
    return table


def _file(root: Path | None, option: str, name: str) -> Path:
    remedy = ". Put it there, or name another folder with data.root=PATH or GAUNTLET_DATA."
    return file_in_root(option, root, Path(FOLDER) / name, remedy)


def _read(root: Path | None) -> dict[str, np.ndarray]:
    wanted = {f"{part}_x": Wanted("f", (part, len(FEATURES))) for part in PARTS}
    wanted |= {f"{part}_y": Wanted("iu", (part,), 0, 1) for part in PARTS}
    return arrays("heart_detectron", root, f"{FOLDER}/detectron_split.npz", wanted)


def _part(found: Mapping[str, np.ndarray], name: str) -> Split:
    x: Tensor = torch.as_tensor(found[f"{name}_x"], dtype=torch.float32)
    return Split(x, torch.as_tensor(found[f"{name}_y"], dtype=torch.int64))
