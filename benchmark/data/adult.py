"""UCI Adult: a census table with sensitive attributes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from benchmark.data.base import Split, file_in_root
from benchmark.data.tables import SensitiveTable, finite
from benchmark.errors import DataMissing
from benchmark.parameters import Sizes

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.compose import ColumnTransformer

VERSION = 1

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"),
    *("race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)
NUMERIC = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CATEGORICAL = ("workclass", "marital_status", "occupation", "relationship", "race", "sex", "native_country")
SENSITIVE: dict[str, tuple[str, ...]] = {
    "sex": ("Female", "Male"),
    "race": ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White"),
}
"""Possible sensitive attributes, each with its values in the order of their codes 0, 1, ..."""

REMEDY = (
    ". Put adult.data and adult.test of https://archive.ics.uci.edu/dataset/2/adult there, or name another folder with "
    "data.root=PATH or GAUNTLET_DATA."
)


class Adult(SensitiveTable):
    """Census data of 48,842 persons (US, 1994); the task is an income above 50,000 dollars (Becker & Kohavi, UCI 1996).

    Rows with a missing value are left out, as is usual: 30,162 remain in the training pool, 15,060 in the test pool.
    Two columns are left out: ``fnlwgt``, a weight of the survey, and ``education``, which repeats ``education_num``.
    Categories are one-hot; all encoding is fitted on the training pool alone, and a category that it lacks is a row of
    zeros.

    Args:
        sensitive: ``sex`` (0 female, 1 male) or ``race`` (0 to 4, see ``SENSITIVE``), as ``Split.sensitive``.
        hide_sensitive: leave that attribute out of the features.
        scaling: of numeric columns: ``minmax`` to [0, 1], test values outside clipped; or ``standard`` to mean 0 and
            standard deviation 1.
    """

    COLUMNS_OF = {name: name for name in SENSITIVE}
    SIZES = {"owner": 20000, "attacker": 6000, "public": 1500, "calibration": 1500, "test": None}

    def __init__(
        self,
        *,
        sizes: Sizes | None = None,
        sensitive: str = "sex",
        hide_sensitive: bool = False,
        scaling: Literal["minmax", "standard"] = "minmax",
    ) -> None:
        super().__init__(sizes=sizes, sensitive=sensitive, hide_sensitive=hide_sensitive)
        self.scaling = scaling

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        train, test = read_parts("adult", root)
        train, test = train.dropna(), test.dropna()
        encoder = self._encoder().fit(train)
        return self._split(encoder, train), self._split(encoder, test), 2

    def _encoder(self) -> ColumnTransformer:
        """Return the columns' unfitted encoder: numeric columns first, in the order of ``NUMERIC``."""
        from sklearn.compose import ColumnTransformer
        from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

        scaler = MinMaxScaler(clip=True) if self.scaling == "minmax" else StandardScaler()
        categorical = [name for name in CATEGORICAL if name not in self._excluded()]
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        return ColumnTransformer([("numeric", scaler, list(NUMERIC)), ("categorical", one_hot, categorical)])

    def _split(self, encoder: ColumnTransformer, table: pd.DataFrame) -> Split:
        """Return x (n, features) float32, y (n,) and sensitive (n,) int64."""
        return Split(
            torch.as_tensor(encoder.transform(table), dtype=torch.float32),
            torch.tensor((table["income"] == ">50K").to_numpy("int64", copy=True)),
            torch.tensor(self._attribute(table).to_numpy("int64", copy=True)),
        )

    def _attribute(self, table: pd.DataFrame) -> pd.Series:
        """Return every row's code of the sensitive attribute."""
        return table[self.sensitive].map({value: code for code, value in enumerate(SENSITIVE[self.sensitive])})


def read_parts(option: str, root: Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the original training and test file, with missing values as they are.

    Raises:
        DataMissing: a file is not there or not one of Adult.
    """
    return (
        _table(file_in_root(option, root, "adult/adult.data", REMEDY), skip=0),
        _table(file_in_root(option, root, "adult/adult.test", REMEDY), skip=1),
    )


def _table(file: Path, skip: int) -> pd.DataFrame:
    """Return the rows of one original file; the first ``skip`` lines are no data.

    Raises:
        DataMissing: the file is not one of Adult.
    """
    import pandas as pd

    try:
        table = pd.read_csv(file, header=None, names=COLUMNS, skiprows=skip, skipinitialspace=True, na_values="?")
        table = table.dropna(subset=["income", *NUMERIC, *SENSITIVE]).assign(
            income=lambda t: t["income"].str.rstrip(".")
        )
        table = finite(table.astype(dict.fromkeys(NUMERIC, "float64")), NUMERIC)
    except (ValueError, AttributeError, TypeError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise _damaged(file, str(error)) from error
    for column, known in {"income": ("<=50K", ">50K"), **SENSITIVE}.items():
        if unknown := sorted(set(table[column].astype(str)) - set(known)):
            raise _damaged(file, f"{column} holds {unknown[0]!r}")
    if table.empty:
        raise _damaged(file, "it holds no complete row")
    return table


def _damaged(file: Path, problem: str) -> DataMissing:
    return DataMissing(f"{file} is not the original file of UCI Adult: {problem}. Get it again.")
