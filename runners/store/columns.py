"""Columns of a packed record: their names, their types, and the layout that tells which of them a record fills."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

Record = dict[str, Any]

SECTIONS = ("utility", "risk", "cost", "diagnostics")
SPREAD = (*SECTIONS, "config")
"""Fields with a column for each entry, ``risk.ssim``."""
NESTED = ("facts", "versions", "curves", "captions", "media")
"""Fields with one column of JSON text."""
SCALARS = ("key", "sweep", "status", "reason", "seed")
LATER = ("seconds", "peak_memory_mb", "device", "started", "data", "schema")
DERIVED = ("dataset", "model", "setting", "threat", "defense", "scale", "adaptive", "family", "surface", "headline")
"""Columns for readers of the table; the record holds the same in ``config`` and ``facts``."""
WHOLE = ("seed", "schema")
"""Columns of integers; other numbers are 64-bit floats."""

LARGEST = 2**53  # integers up to here are exact as floats

# Types in a layout: float, integer, text, truth value, null, JSON text, and a field with a column for each entry.
FLOAT, INTEGER, TEXT, TRUTH, NULL, JSON, ENTRIES = "f", "i", "s", "b", "n", "j", "d"


def schema(records: Iterable[Record]) -> pa.Schema:
    """Return the columns for all of ``records``, in an order and of types that depend on them alone."""
    types: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for column, kind, _ in _cells(record):
            types[column].add(kind)
    spread = [column for field in SECTIONS for column in sorted(types) if column.startswith(f"{field}.")]
    config = sorted(column for column in types if column.startswith("config."))
    names = [*SCALARS, *DERIVED, *spread, *LATER, *config, *NESTED]
    names += sorted(types.keys() - set(names))  # fields that a later version of the suite may add
    return pa.schema([*((name, _type(name, types[name])) for name in names), ("layout", pa.string())])


def _type(column: str, kinds: set[str]) -> pa.DataType:
    known = kinds - {NULL}
    if column == "adaptive" or known == {TRUTH}:
        return pa.bool_()
    if column in WHOLE and known <= {INTEGER}:
        return pa.int64()
    number = known <= {FLOAT, INTEGER} if known else column.partition(".")[0] in (*SECTIONS, *LATER[:2])
    return pa.float64() if number else pa.string()


def table(records: Sequence[Record], columns_of: pa.Schema) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [None] * len(records) for name in columns_of.names}
    numbers = {field.name for field in columns_of if not pa.types.is_string(field.type)}
    for i, record in enumerate(records):
        for name, value in _derived(record).items():
            columns[name][i] = value
        for name, kind, value in _cells(record):
            as_is = name in numbers or kind in (TEXT, NULL)
            columns[name][i] = value if as_is else _dumped(value)
        columns["layout"][i] = _dumped(_layout(record))
    return pa.table([pa.array(columns[field.name], field.type) for field in columns_of], columns_of)


def _cells(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield every column that ``record`` has an entry in, the entry's type and its value."""
    for field, value in record.items():
        kind = _kind(field, value)
        if kind == ENTRIES:
            for name, entry in value.items():
                yield f"{field}.{name}", _kind(f"{field}.", entry), entry
        else:
            yield field, kind, value


def _layout(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type of each field, or for a field with a column an entry the type of each entry."""
    return {
        field: {name: _kind(f"{field}.", entry) for name, entry in value.items()} if kind == ENTRIES else kind
        for field, value in record.items()
        for kind in [_kind(field, value)]
    }


def _kind(field: str, value: Any) -> str:
    if field in SPREAD and isinstance(value, dict):
        return ENTRIES
    if field == "config." or field in NESTED or isinstance(value, dict | list):
        return JSON
    if value is None:
        return NULL
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, int):
        return INTEGER if abs(value) <= LARGEST else JSON
    return FLOAT if isinstance(value, float) else TEXT


def flat(record: Mapping[str, Any]) -> Record:
    """Return the value of ``record`` for each column, nested fields as they are."""
    return _derived(record) | {column: value for column, _, value in _cells(record)}


def _derived(record: Mapping[str, Any]) -> Record:
    config, facts = record.get("config") or {}, record.get("facts") or {}
    row = {part: (config.get(part) or {}).get("name") for part in ("dataset", "model", "setting", "threat", "scale")}
    row["defense"] = "+".join(node["name"] for node in config.get("defense") or [])
    row |= {name: facts.get(name) for name in ("family", "surface", "headline")}
    row["adaptive"] = bool(facts.get("adaptive", (config.get("threat") or {}).get("adaptive", False)))
    return row


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
