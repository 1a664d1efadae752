"""Parts of tables: fields that no spreadsheet runs, and results by cell that are calculated once for equal cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a field that a spreadsheet takes for a formula."""

T = TypeVar("T")
Config = Mapping[str, Any]


def unevaluated(field: Any) -> Any:
    """Return a field of a CSV file; a text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if not isinstance(field, str) or not field.startswith(FORMULA):
        return field
    try:
        float(field)
    except ValueError:
        return f"'{field}"
    return field


class PerCell(Generic[T]):
    """Cached function of a cell's ``config`` that does not depend on the seed.

    Equal parts of packed records are one object, so cells are compared by the identity of their parts, which takes far
    less time than comparing contents. Equal parts that are two objects only cost a second call.
    """

    def __init__(self, function: Callable[[Config], T]) -> None:
        self.function = function
        self.known: dict[tuple[int, ...], tuple[T, Config]] = {}  # keeps the parts, so that no identity is used again

    def __call__(self, config: Config) -> T:
        place = tuple(id(part) for name, part in config.items() if name != "seed")
        found = self.known.get(place)
        if found is None:
            found = self.known[place] = (self.function(config), config)
        return found[0]
