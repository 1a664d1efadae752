"""What tabular data sets share: reading a file of the data root, cutting off a test pool, encoding columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.data.base import Split, balanced_order, file_in_root
from benchmark.errors import ConfigError, DataMissing
from benchmark.seeds import generator

if TYPE_CHECKING:
    import pandas as pd

TEST_SHARE = 0.3


def read(
    option: str, root: Path | None, path: str, publisher: str, parse: Callable[[Path], pd.DataFrame]
) -> pd.DataFrame:
    """``parse`` of the file ``path`` under ``root``; ``publisher`` says where to get it.

    Raises:
        DataMissing: there is no root, no file, or another file.
    """
    remedy = f". Get it from {publisher}, or name another folder with data.root=PATH or GAUNTLET_DATA."
    file = file_in_root(option, root, path, remedy)
    try:
        return parse(file)
    except (ValueError, KeyError, AttributeError) as error:  # pandas' own errors are ValueErrors
        raise DataMissing(
            f"{file} is not the original file of {option}: {type(error).__name__}. Get it again."
        ) from error


def attribute_named(name: str, known: Mapping[str, object]) -> str:
    if name not in known:
        raise ConfigError(f"dataset.sensitive must be one of {', '.join(known)}, got {name!r}.")
    return name


def pools(
    table: pd.DataFrame, y: Tensor, sensitive: Tensor, *, numeric: Sequence[str], categorical: Sequence[str], name: str
) -> tuple[Split, Split, int]:
    """A fixed, class-balanced 70/30 cut into training and test pool, the same for every seed; two classes.

    Numeric columns come first, min-max scaled to [0, 1] (test values outside are cut off), then one-hot categories.
    All encoding is fitted on the training pool; a category that it lacks is a row of zeros.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

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
