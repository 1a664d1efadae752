"""Shared code of tabular data sets: reading a file of the data root, a fixed test pool, encoding of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmark.data.base import Source, Split, balanced_order, file_in_root
from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Sizes
from benchmark.seeds import generator

if TYPE_CHECKING:
    import pandas as pd

TEST_SHARE = 0.3
LEAST_ROWS = 10  # of which both pools have some


def read(
    option: str, root: Path | None, path: str, publisher: str, parse: Callable[[Path], pd.DataFrame]
) -> pd.DataFrame:
    """Return ``parse`` of the file ``path`` under ``root``; ``publisher`` is where to get it.

    Raises:
        DataMissing: there is no root or no file, or ``parse`` cannot read it.
    """
    remedy = f". Get it from {publisher}, or name another folder with data.root=PATH or GAUNTLET_DATA."
    file = file_in_root(option, root, path, remedy)
    try:
        return parse(file)
    except (
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        OverflowError,
    ) as error:  # pandas' own errors are ValueErrors
        raise DataMissing(
            f"{file} is not the original file of {option}: {type(error).__name__}. Get it again."
        ) from error


def finite(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return ``table``.

    Raises:
        ValueError: one of ``columns`` holds an infinite number or a gap.
    """
    if not np.isfinite(table[list(columns)].to_numpy("float64")).all():
        raise ValueError("a number is infinite or missing")
    return table


class SensitiveTable(Source):
    """Base of tables with a sensitive attribute, which may be left out of the features.

    Class attributes:
        COLUMNS_OF: sensitive attribute -> the column that holds it.

    Args:
        sensitive: a key of ``COLUMNS_OF``, as ``Split.sensitive``.
        hide_sensitive: leave its column out of the features.

    Raises:
        ConfigError: there is no such attribute.
    """

    kind = "tabular"
    has_sensitive: ClassVar[bool] = True
    COLUMNS_OF: ClassVar[Mapping[str, str]]

    def __init__(self, *, sizes: Sizes | None, sensitive: str, hide_sensitive: bool) -> None:
        super().__init__(sizes=sizes)
        if sensitive not in self.COLUMNS_OF:
            raise ConfigError(f"dataset.sensitive must be one of {', '.join(self.COLUMNS_OF)}, got {sensitive!r}.")
        self.sensitive, self.hide_sensitive = sensitive, hide_sensitive

    def _excluded(self) -> set[str]:
        """Return the columns left out of the features."""
        return {self.COLUMNS_OF[self.sensitive]} if self.hide_sensitive else set()


def pools(
    table: pd.DataFrame, y: Tensor, sensitive: Tensor, *, numeric: Sequence[str], categorical: Sequence[str], name: str
) -> tuple[Split, Split, int]:
    """Return a fixed, class-balanced 70/30 cut into training and test pool, the same for every seed, and two classes.

    Numeric columns come first, min-max scaled to [0, 1] (test values outside are clipped), then one-hot categories.
    All encoding is fitted on the training pool; a category that it lacks is a row of zeros.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

    if len(y.unique()) < 2 or len(y) < LEAST_ROWS:
        raise DataMissing(f"The file of {name} holds {len(y)} rows of {len(y.unique())} classes. Get it again.")
    order = balanced_order(y, generator(0, f"{name}.pools"))
    held_out = round(TEST_SHARE * len(order))
    parts = order[held_out:], order[:held_out]
    encoder = ColumnTransformer(
        [
            ("numeric", MinMaxScaler(clip=True), list(numeric)),
            ("categorical", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(categorical)),
        ]
    ).fit(table.iloc[parts[0].numpy()])
    train, test = (
        Split(
            torch.as_tensor(encoder.transform(table.iloc[rows.numpy()]), dtype=torch.float32), y[rows], sensitive[rows]
        )
        for rows in parts
    )
    return train, test, 2
