"""German credit: a small table of loans with two sensitive attributes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmark.data import tables
from benchmark.data.base import Split
from benchmark.data.tables import SensitiveTable
from benchmark.parameters import Sizes

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1

COLUMNS = [f"a{i}" for i in range(1, 21)] + ["credit"]
NUMERIC = ("a2", "a5", "a8", "a11", "a13", "a16", "a18")
SENSITIVE = {"age": "a13", "sex": "a9"}
WOMEN = ("A92", "A95")
YOUNG = 25


class GermanCredit(SensitiveTable):
    """Records of 1,000 loans (Hofmann, UCI Statlog 1994); the task is a good risk (1, 700 of them) or a bad one (0).

    Args:
        sensitive: ``age`` (1: above 25 years) or ``sex`` (1: a man, by the attribute of personal status).
        hide_sensitive: leave the column of that attribute out of the features.
    """

    COLUMNS_OF = SENSITIVE
    SIZES = {"owner": 350, "attacker": 150, "public": 50, "calibration": 150, "test": None}

    def __init__(self, *, sizes: Sizes | None = None, sensitive: str = "age", hide_sensitive: bool = True) -> None:
        super().__init__(sizes=sizes, sensitive=sensitive, hide_sensitive=hide_sensitive)

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        publisher = "https://archive.ics.uci.edu/dataset/144 (german.data)"
        table = tables.read("german_credit", root, "german_credit/german.data", publisher, _parse)
        hidden = self._excluded()
        return tables.pools(
            table,
            torch.tensor((table["credit"] == 1).to_numpy("int64", copy=True)),
            torch.tensor(self._attribute(table).to_numpy("int64", copy=True)),
            numeric=[name for name in NUMERIC if name not in hidden],
            categorical=[name for name in COLUMNS[:-1] if name not in NUMERIC and name not in hidden],
            name="german_credit",
        )

    def _attribute(self, table: pd.DataFrame) -> pd.Series:
        return table["a13"] > YOUNG if self.sensitive == "age" else ~table["a9"].isin(WOMEN)


def _parse(file: Path) -> pd.DataFrame:
    import pandas as pd

    table = pd.read_csv(file, sep=r"\s+", header=None, names=COLUMNS)
    if not set(table["credit"]) <= {1, 2}:
        raise ValueError("credit is 1 or 2")
    return tables.finite(table.astype(dict.fromkeys(NUMERIC, "float64")), NUMERIC)
