"""COMPAS: new arrests within two years. About real people: columns with names are never read."""

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

NUMERIC = ("age", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count")
CATEGORICAL = ("sex", "race", "c_charge_degree")
FILTER = ("days_b_screening_arrest", "is_recid", "score_text")
LABEL = "two_year_recid"
SENSITIVE = {"race": "African-American", "sex": "Female"}
"""Attribute -> the value of code 0; all others are 1."""


class Compas(SensitiveTable):
    """6,172 defendants of Broward County after the publisher's filter (ProPublica 2016); the task is a new arrest (1).

    Args:
        sensitive: ``race`` (0 African-American, 1 others) or ``sex`` (0 female, 1 male).
        hide_sensitive: leave that attribute out of the features.
    """

    COLUMNS_OF = {name: name for name in SENSITIVE}
    SIZES = {"owner": 2000, "attacker": 1000, "public": 300, "calibration": 1000, "test": None}

    def __init__(self, *, sizes: Sizes | None = None, sensitive: str = "race", hide_sensitive: bool = True) -> None:
        super().__init__(sizes=sizes, sensitive=sensitive, hide_sensitive=hide_sensitive)

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        publisher = "https://github.com/propublica/compas-analysis"
        table = tables.read("compas", root, "compas/compas-scores-two-years.csv", publisher, _parse)
        return tables.pools(
            table,
            torch.tensor(table[LABEL].to_numpy("int64", copy=True)),
            torch.tensor(self._attribute(table).to_numpy("int64", copy=True)),
            numeric=NUMERIC,
            categorical=[name for name in CATEGORICAL if name not in self._excluded()],
            name="compas",
        )

    def _attribute(self, table: pd.DataFrame) -> pd.Series:
        return table[self.sensitive] != SENSITIVE[self.sensitive]


def _parse(file: Path) -> pd.DataFrame:
    """Return the rows that the publisher keeps, with the columns named here only."""
    import pandas as pd

    wanted = [*NUMERIC, *CATEGORICAL, *FILTER, LABEL]
    table = pd.read_csv(file, usecols=lambda column: column in wanted, keep_default_na=False, na_values=[""])
    table = table.loc[:, ~table.columns.duplicated()][wanted]  # the publisher's file repeats some columns
    kept = (
        table["days_b_screening_arrest"].between(-30, 30)
        & (table["is_recid"] != -1)
        & (table["c_charge_degree"] != "O")
        & (table["score_text"] != "N/A")
    )
    return tables.finite(table[kept].astype({**dict.fromkeys(NUMERIC, "float64"), LABEL: "int64"}), NUMERIC)
