"""UCI Adult as fragmented federated learning takes it: ten columns, categories as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmark.data.adult import SENSITIVE, read_parts
from benchmark.data.base import Source, Split

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1

COLUMNS = (
    *("age", "workclass", "education_num", "marital_status", "occupation", "relationship", "race", "sex"),
    *("hours_per_week", "native_country"),
)
MARRIED = ("Married-civ-spouse", "Married-spouse-absent", "Married-AF-spouse")
TEST_SHARE, SPLIT_SEED = 0.2, 92


class AdultCoded(Source):
    """Census data of 48,790 persons, ten columns; the task is an income above 50,000 dollars.

    The preparation of Jebreel et al. (*Enhanced Security and Privacy via Fragmented Federated Learning*, IEEE TNNLS
    2024) as their code has it: both files together without repeated rows, a missing value is a category of its own,
    marital status is married or not, every category is its rank in the alphabet, all columns are standardised by the
    training pool's mean and deviation, and a random fifth is the test pool, the same for every seed. They leave out the
    capital gain and loss, without which the task is harder than :class:`benchmark.data.adult.Adult`.
    """

    kind = "tabular"
    has_sensitive = True
    SIZES = {"owner": 30000, "attacker": 6000, "public": 1500, "calibration": 1500, "test": None}

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        import pandas as pd
        from sklearn.model_selection import train_test_split

        train, test = read_parts("adult_coded", root)
        table = pd.concat([test, train]).drop_duplicates(ignore_index=True)
        x, y = coded(table), torch.tensor((table["income"] == ">50K").to_numpy("int64", copy=True))
        sex = torch.tensor((table["sex"] == SENSITIVE["sex"][1]).to_numpy("int64", copy=True))
        kept, held_out = train_test_split(range(len(table)), test_size=TEST_SHARE, random_state=SPLIT_SEED)
        mean, deviation = x[kept].mean(dim=0), x[kept].std(dim=0, correction=0)
        x = ((x - mean) / deviation).float()
        whole = Split(x, y, sex)
        return whole[torch.tensor(kept)], whole[torch.tensor(held_out)], 2


def coded(table: pd.DataFrame) -> torch.Tensor:
    """Return the ten columns (n, 10) as float64, categories as their rank in the alphabet."""
    married = table["marital_status"].isin(MARRIED).map({True: "Married", False: "Unmarried"})
    filled = table.assign(marital_status=married)[list(COLUMNS)]
    codes = {
        name: column if column.dtype == "float64" else column.fillna("?").astype("category").cat.codes
        for name, column in filled.items()
    }
    return torch.stack([torch.tensor(column.to_numpy("float64", copy=True)) for column in codes.values()], dim=1)
