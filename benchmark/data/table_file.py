"""A user's table: CSV or Parquet, with columns of numbers and of texts and missing values."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmark.data.brought import Brought, Samples, attribute, classes_of, coded
from benchmark.data.content import refuse_huge, visible
from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Sizes

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1

PARTS = ("train", "test")
SUFFIXES = (".csv", ".parquet")
MOST_CATEGORIES = 100
MISSING = "?"
"""A cell that holds this, or nothing, or what pandas knows as such (``NA``, ``nan``), is missing."""
NO_VALUE = "(missing)"
GROWTH = 8
"""Bytes of memory that a byte of CSV may take, as numbers and while it is parsed."""


class TableFile(Brought):
    """Rows of a ``.csv`` or ``.parquet`` file with a header, or of ``train.*`` and ``test.*`` in a folder.

    Numbers are scaled to [0, 1], missing ones replaced by the median, other columns one-hot with a category for what is
    missing; all of it fitted on the owner's rows alone. Values outside the owner's range are clipped; a category that
    the owner lacks is a row of zeros. Constant and empty columns are left out, which the record tells.

    Args:
        path: see :class:`benchmark.data.brought.Brought`.
        label: the column of the class: whole numbers or texts.
        sensitive: a column as ``Split.sensitive``, or None. It stays among the features unless ``hide_sensitive``.
        group: a column that says from which person or recording a row comes, or None; never a feature.
        drop: columns to leave out.
    """

    kind = "tabular"

    def __init__(
        self,
        *,
        sizes: Sizes | None = None,
        path: str = "my_table.csv",
        label: str = "label",
        sensitive: str | None = None,
        hide_sensitive: bool = False,
        group: str | None = None,
        drop: Sequence[str] = (),
        content: str | None = None,
    ) -> None:
        super().__init__(sizes=sizes, path=path, content=content)
        self.columns = {"label": label, "sensitive": sensitive, "group": group}
        self.hide_sensitive, self.drop = hide_sensitive, list(drop)
        used = [name for name in self.columns.values() if name is not None]
        if twice := [name for name in used if used.count(name) > 1]:
            raise ConfigError(f"dataset names the column {twice[0]!r} twice, as label, sensitive or group.")
        if both := set(used) & set(self.drop):
            raise ConfigError(f"dataset.drop leaves out {sorted(both)[0]!r}, which is label, sensitive or group.")

    def samples(self, root: Path | None) -> Samples:
        place = self.found_at(root)
        frame, tested = read(place)
        try:
            return self.of_frame(frame, tested)
        except DataMissing as error:
            raise DataMissing(f"{place}: {error}") from None

    def of_frame(self, frame: pd.DataFrame, tested: int | None) -> Samples:
        """Return the samples of a table whose last ``tested`` rows are its test part.

        Raises:
            ConfigError: there is no such column.
            DataMissing: a column cannot be used.
        """
        for option, name in [*self.columns.items(), *(("drop", name) for name in self.drop)]:
            if name is not None and name not in frame.columns:
                raise ConfigError(f"dataset.{option}={name!r} is no column{nearest(name, list(frame.columns))}")
        notes: list[str] = []
        values = {role: _values(frame, name) for role, name in self.columns.items() if name is not None}
        y, classes, numbered = classes_of(values["label"], f"the column {self.columns['label']!r}")
        sensitive = group = None
        if "sensitive" in values:
            sensitive, more = attribute(values["sensitive"], f"the column {self.columns['sensitive']!r}")
            numbered += more
        if "group" in values:
            group = coded(values["group"], f"the column {self.columns['group']!r}")[0]
        away = {self.columns["label"], self.columns["group"], *self.drop}
        if self.hide_sensitive:
            away.add(self.columns["sensitive"])
        features = Columns.of(frame[[name for name in frame.columns if name not in away]], notes)
        return Samples(features, y, classes, tested, sensitive, group, (*numbered, *notes))


@dataclass(frozen=True)
class Columns:
    """Columns of a table as inputs: numbers first, then one-hot texts."""

    frame: pd.DataFrame
    numeric: list[str]
    categorical: list[str]

    @classmethod
    def of(cls, frame: pd.DataFrame, notes: list[str]) -> Columns:
        """Sort the columns by what they hold; add to ``notes`` which are left out and how many values are missing.

        Raises:
            DataMissing: a column is neither of numbers nor of few texts, or none is left.
        """
        import pandas as pd

        kept: dict[str, pd.Series] = {}
        numeric, categorical = [], []
        for name in frame.columns:
            column = frame[name]
            if unnamed := str(name).startswith("Unnamed: "):
                notes.append(f"The column {name!r} has no name and is left out.")
            if unnamed or _is_constant(name, column, notes):
                continue
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
                kept[name] = column.astype("float64")
                numeric.append(name)
                if np.isinf(kept[name].to_numpy()).any():
                    raise DataMissing(f"the column {name!r} holds an infinite number; correct it, or leave it empty.")
            else:
                kept[name] = _texts(name, column)
                categorical.append(name)
        if not kept:
            raise DataMissing("there is no column left to learn from besides label, group and those left out.")
        missing = int(sum(kept[name].isna().sum() for name in numeric))
        if missing:
            notes.append(f"{missing} missing numbers are replaced by the median of the owner's.")
        return cls(pd.DataFrame(kept), numeric, categorical)

    def fitted(self, owner: Tensor) -> Callable[[Tensor], Tensor]:
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

        numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), MinMaxScaler(clip=True))
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        encoder = ColumnTransformer([("numeric", numbers, self.numeric), ("categorical", one_hot, self.categorical)])
        encoder.fit(self.frame.iloc[owner.numpy()] if len(owner) else self.frame)
        width = encoder.transform(self.frame.iloc[:1]).shape[1]

        def encode(rows: Tensor) -> Tensor:
            if not len(rows):
                return torch.zeros(0, width)
            return torch.as_tensor(encoder.transform(self.frame.iloc[rows.numpy()]), dtype=torch.float32)

        return encode


def _values(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as numbers or texts."""
    import pandas as pd

    column = frame[name]
    if lacking := int(column.isna().sum()):
        raise DataMissing(f"the column {name!r} has no value in {lacking} rows; leave these rows out.")
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_integer_dtype(column):
        return column.to_numpy("int64")
    if pd.api.types.is_float_dtype(column):
        return column.to_numpy("float64")
    return column.astype(str).to_numpy(dtype=str)


def _is_constant(name: str, column: pd.Series, notes: list[str]) -> bool:
    try:
        values = column.nunique(dropna=False)
    except TypeError:  # lists and other things that cannot be compared
        raise DataMissing(
            f"the column {name!r} holds no numbers or texts; leave it out, dataset.drop=[{visible(name)}]."
        ) from None
    if values < 2:
        empty = bool(column.isna().all())
        notes.append(f"The column {name!r} {'is empty' if empty else 'has one value'} and is left out.")
    return values < 2


def _texts(name: str, column: pd.Series) -> pd.Series:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise DataMissing(
            f"the column {name!r} holds times; turn them into numbers, or leave it out, dataset.drop=[{visible(name)}]."
        )
    present = column.dropna().astype(str)
    numbers = pd.to_numeric(present, errors="coerce")
    if 2 * numbers.notna().sum() > len(present) and numbers.isna().any():
        odd = present[numbers.isna()].iloc[0]
        raise DataMissing(
            f"the column {name!r} holds numbers, and {odd[:30]!r}; correct it, write {MISSING} for what is missing, or "
            f"leave the column out, dataset.drop=[{visible(name)}]."
        )
    values = present.nunique()
    if values > MOST_CATEGORIES or 2 * values > len(column):
        raise DataMissing(
            f"the column {name!r} has {values} different texts in {len(column)} rows, so it names things rather than "
            f"sorts them; leave it out, dataset.drop=[{visible(name)}]."
        )
    return column.astype(object).where(column.isna(), column.astype(str)).fillna(NO_VALUE)


def nearest(name: str, columns: Sequence[object]) -> str:
    """Return the end of a sentence on a column that is not there: ``; did you mean X?``, or ``; there is X, Y, Z.``"""
    names = [visible(column) for column in columns]
    if close := get_close_matches(name, names, n=3):
        return f"; did you mean {' or '.join(close)}?"
    more = ", ..." if len(names) > 20 else ""
    return f"; there is {', '.join(names[:20])}{more}."


# -- files ------------------------------------------------------------------------------------------------------------
def read(place: Path) -> tuple[pd.DataFrame, int | None]:
    """Return the rows of a file, or of the training and then the test file of a folder and how many the latter has.

    Raises:
        DataMissing: there is no such file, or it cannot be read.
    """
    import pandas as pd

    if not place.is_dir():
        return _file(place), None
    found = {part: [place / f"{part}{suffix}" for suffix in SUFFIXES] for part in PARTS}
    files = {part: [file for file in there if file.is_file()] for part, there in found.items()}
    if any(len(there) != 1 for there in files.values()):
        raise DataMissing(
            f"{place} is a folder, which must hold train.csv and test.csv (or .parquet), one of each; or give the path "
            "of a single file, dataset.path=FILE."
        )
    train, test = (_file(files[part][0]) for part in PARTS)
    if set(train.columns) != set(test.columns):
        odd = sorted(map(str, set(train.columns) ^ set(test.columns)))
        raise DataMissing(
            f"{place}: the column {odd[0]!r} is in one of the two files only; give both the same columns."
        )
    return pd.concat([train, test[train.columns]], ignore_index=True), len(test)


def _file(file: Path) -> pd.DataFrame:
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataMissing(
            f"{file} is neither .csv nor .parquet; for .npz and .safetensors use dataset=arrays, for pictures "
            "dataset=folder."
        )
    try:
        frame = _csv(file) if suffix == ".csv" else _parquet(file)
    except DataMissing:
        raise
    except Exception as error:  # pandas and pyarrow raise many kinds on a damaged file
        told = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")[:200]
        raise DataMissing(
            f"{file} cannot be read as a table, {type(error).__name__}: {told}. Write it anew."
        ) from error
    names = [str(name) for name in frame.columns]
    if len(names) < 2:
        raise DataMissing(f"{file} has {len(names)} column; a table has a label and features, separated by commas.")
    if frame.empty:
        raise DataMissing(f"{file} has no rows below its header; bring at least some samples.")
    frame.columns = names
    return frame


def _csv(file: Path) -> pd.DataFrame:
    import pandas as pd

    refuse_huge(file, GROWTH * file.stat().st_size)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        names = [name.strip() for name in next(csv.reader(stream), [])]
    _refuse_twice(file, names)
    return pd.read_csv(file, na_values=[MISSING], skipinitialspace=True, encoding="utf-8-sig", low_memory=False)


def _parquet(file: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as archive:
        told = archive.metadata
        refuse_huge(file, sum(told.row_group(number).total_byte_size for number in range(told.num_row_groups)))
        _refuse_twice(file, archive.schema_arrow.names)
        return archive.read().to_pandas(ignore_metadata=True)


def _refuse_twice(file: Path, names: Sequence[str]) -> None:
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise DataMissing(f"{file} has two columns {twice[0]!r}; rename or remove one of them.")
