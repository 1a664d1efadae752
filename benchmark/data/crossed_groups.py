"""Tables whose sensitive attribute combines two attributes of two values: four groups.

For fair mapping with more than one sensitive attribute (Gambs, Ngueveu, 2022): all records are mapped onto one group.
Group ``2 a + b`` has the codes a and b, where 1 is the privileged value; neither attribute is among the features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.data.adult import Adult
from benchmark.data.compas import Compas
from benchmark.data.german_credit import WOMEN, YOUNG, GermanCredit
from benchmark.parameters import Sizes

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


class AdultCrossed(Adult):
    """UCI Adult by sex (a: man) and race (b: white); numeric columns lie in [0, 1]."""

    def __init__(self, *, sizes: Sizes | None = None) -> None:
        super().__init__(sizes=sizes, sensitive="sex", hide_sensitive=True, scaling="minmax")

    def _excluded(self) -> set[str]:
        return {"sex", "race"}

    def _attribute(self, table: pd.DataFrame) -> pd.Series:
        return cross(table["sex"] == "Male", table["race"] == "White")


class GermanCreditCrossed(GermanCredit):
    """German credit by age (a: above 25 years) and sex (b: man)."""

    def __init__(self, *, sizes: Sizes | None = None) -> None:
        super().__init__(sizes=sizes, sensitive="age", hide_sensitive=True)

    def _excluded(self) -> set[str]:
        return {"a9", "a13"}

    def _attribute(self, table: pd.DataFrame) -> pd.Series:
        return cross(table["a13"] > YOUNG, ~table["a9"].isin(WOMEN))


class CompasCrossed(Compas):
    """COMPAS by race (a: not African-American) and sex (b: woman)."""

    def __init__(self, *, sizes: Sizes | None = None) -> None:
        super().__init__(sizes=sizes, sensitive="race", hide_sensitive=True)

    def _excluded(self) -> set[str]:
        return {"race", "sex"}

    def _attribute(self, table: pd.DataFrame) -> pd.Series:
        return cross(table["race"] != "African-American", table["sex"] == "Female")


def cross(a: pd.Series, b: pd.Series) -> pd.Series:
    """Return the groups 0 to 3 of two binary attributes."""
    return 2 * a.astype("int64") + b.astype("int64")
