"""Table of all records of a store, a row a record.

Reads JSON only, never torch, so that a table of thousands of records is there within a second or two.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import GauntletError
from runners.store.parts import PerCell, unevaluated
from runners.store.records import Store
from runners.store.staleness import moved_on

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]
Context = tuple[str, ...]
"""Scale, dataset, kind and name of a component, within which labels must differ."""
Place = tuple[str, str, str, int]
"""Scale, dataset, kind and identity of a part."""
Differing = dict[Context, dict[str, str | None]]

READ = (
    *("sweep", "status", "reason", "seed", "seconds", "peak_memory_mb", "device", "started", "data"),
    *("config", "facts", "utility", "risk", "cost", "diagnostics", "media"),
)
COMPONENTS = ("dataset", "model", "setting", "threat")
LABELS = [f"{kind}_label" for kind in (*COMPONENTS, "defense")]
ORDER = ["scale", *LABELS, "seed", "key"]
FIRST = [
    *("key", "status", "reason", "dataset", "model", "setting", "threat", "defense", "scale", "seed"),
    *LABELS,
    *("family", "surface", "adaptive", "control", "headline", "headline_value", "floor_metric", "floor_at_least"),
    *("stale", "utility_metric", "seconds", "peak_memory_mb", "device", "sweep", "started", "data"),
]


TOLD = ["key", "status", "dataset", "model", "threat_label", "defense_label", "scale", "seed", "seconds"]
GROUPS = ("utility", "risk", "cost", "diagnostics", "media")


def load(store: Path) -> pd.DataFrame:
    """Return the table of a store, in an order that depends on the records alone; empty when there are none.

    Besides the fields of a record it has

    * ``reason``: its last line; ``stale``: the ``VERSION`` of a component has moved on since;
    * ``headline_value``: the risk metric that the threat is judged by; ``utility_metric``: name of the first utility;
    * ``utility.*``, ``risk.*``, ``cost.*``, ``diagnostics.*``, ``media.*``: one column an entry;
    * ``dataset``, ``model``, ``setting``, ``threat``, ``defense``: names, a stack joined by ``+``;
    * ``*_label``: the name with those parameters in which records of that name differ (of a dataset, model or
      setting only what is unusual). Only records of the same dataset and scale are compared, since numbers differ
      between scales by design.

    Raises:
        GauntletError: a file is not a record; the message names it.
    """
    return frame_of(read_all(store))


def frame_of(records: Sequence[Record], groups: Sequence[str] = GROUPS) -> pd.DataFrame:
    """Return the table of ``records``, whatever their order, with the entries of ``groups``; see :func:`load`."""
    import pandas as pd

    labels = Labels(records)
    pairs = [(_row(record, labels), record) for record in records]
    pairs.sort(key=lambda pair: [pair[0][name] for name in ORDER])
    columns: dict[str, Any] = {name: [row.get(name) for row, _ in pairs] for name in FIRST}
    columns |= _entries([record for _, record in pairs], groups)
    del pairs
    names = [*FIRST, *sorted(columns.keys() - set(FIRST))]
    frame = pd.DataFrame({name: columns.pop(name) for name in names}, copy=False)
    for column in frame:
        if pd.api.types.is_object_dtype(frame[column]):
            frame[column] = _uniform(frame[column])
    return frame


def _entries(records: Sequence[Record], groups: Sequence[str]) -> dict[str, Any]:
    """Return the values of all records by column (``risk.ssim``): an array of floats, else a list."""
    import numpy as np

    columns: dict[str, Any] = {}
    for i, record in enumerate(records):
        for group in groups:
            for name, value in (record.get(group) or {}).items():
                column = columns.get(f"{group}.{name}")
                if column is None:
                    column = columns[f"{group}.{name}"] = np.full(len(records), np.nan)
                if isinstance(value, float):
                    column[i] = value
                elif value is not None:
                    if not isinstance(column, list):
                        column = columns[f"{group}.{name}"] = [None if math.isnan(x) else x for x in column.tolist()]
                    column[i] = value
    return columns


def rows(store: Path) -> list[dict[str, Any]]:
    """Return the columns :data:`TOLD`, which tell cells apart, as plain data in the order of :func:`load`.

    Neither pandas, which takes a second to import, nor any measured number is loaded.
    """
    records = list(Store(store).all("status", "seed", "seconds", "config", "facts"))
    labels = Labels(records)
    found = [_named(record, labels) | {name: record[name] for name in TOLD if name in record} for record in records]
    return sorted(found, key=lambda row: [row[name] for name in ORDER])


def read_all(store: Path) -> list[Record]:
    """Return every record of a store by key, with the fields that tables, boards and claims use; see :func:`load`.

    Parts of equal content may be one object, so callers must not modify them.
    """
    return list(Store(store).all(*READ))


def select(frame: pd.DataFrame, query: str) -> pd.DataFrame:
    """Return the rows that ``query`` keeps, in the language of :meth:`pandas.DataFrame.query` without its calls.

    Raises:
        GauntletError: pandas cannot make sense of it, or it would call a function.
    """
    try:
        calls = _calls(query)
        kept = frame if calls else frame.query(query)
    except Exception as error:  # whatever pandas' parser raises
        raise GauntletError(
            f"The query {query!r} cannot be answered: {(str(error).splitlines() or [''])[0]}. "
            "Columns with a dot stand in backticks (`risk.ssim` > 0.5), texts in quotes (threat == 'leakage_dlg')."
        ) from error
    if calls:
        raise GauntletError(
            f"The query {query!r} may only compare columns; of methods there are {', '.join(sorted(METHODS))}, "
            "and .str before those of texts."
        )
    return kept


QUOTED = re.compile(r"""'(?:[^'\\`]|\\.)*'|"(?:[^"\\`]|\\.)*"|`[^`'"]*`""")
METHODS = frozenset(
    {"isna", "notna", "isnull", "notnull", "isin", "between", "abs", "startswith", "endswith", "contains", "lower"}
)


def _calls(query: str) -> bool:
    """Return whether ``query`` reads a variable of ours (``@``) or calls anything but the :data:`METHODS`.

    Raises:
        SyntaxError: it is no expression.
    """
    plain = QUOTED.sub(lambda found: "column" if found[0][0] == "`" else "'text'", query)
    if re.search("[@#`\n\r\f\\\\]", plain):
        return True
    return not all(map(_is_harmless, ast.walk(ast.parse(plain.strip(), mode="eval"))))


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return not node.id.startswith("__")
    if isinstance(node, ast.Attribute):
        return node.attr in METHODS or node.attr == "str"
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute)
    return not isinstance(node, ast.Lambda | ast.NamedExpr | ast.comprehension | ast.JoinedStr | ast.Await)


def write(frame: pd.DataFrame, path: Path) -> list[Path]:
    """Write ``frame`` as ``path`` with the endings ``.parquet`` and ``.csv``, and return both paths."""
    return [write_as(frame, kind, path.with_suffix(f".{kind}")) for kind in ("parquet", "csv")]


def write_as(frame: pd.DataFrame, kind: str, path: Path) -> Path:
    """Write ``frame`` to ``path`` as ``csv`` or ``parquet``, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "csv":
        frame = frame.rename(columns=unevaluated)
        texts = {str(name): found.map(unevaluated) for name, found in frame.select_dtypes(exclude="number").items()}
        frame.assign(**texts).to_csv(path, index=False, lineterminator="\n")
    else:
        frame.to_parquet(path, index=False)
    return path


def _named(record: Record, labels: Labels) -> dict[str, Any]:
    """Return names and labels of the parts of a record's cell."""
    config, facts = record["config"], record["facts"]
    row = {kind: config[kind]["name"] for kind in (*COMPONENTS, "scale")}
    row |= {f"{kind}_label": labels.of(config, kind) for kind in (*COMPONENTS, "defense")}
    if precision := config.get("precision"):
        row["model_label"] = f"{row['model_label']} · {precision}"
    # A cell that failed before its threat could be imported has no facts.
    row["adaptive"] = bool(facts.get("adaptive", config["threat"].get("adaptive", False)))
    if row["adaptive"]:
        row["threat_label"] = f"{row['threat_label']} · adaptive"
    return row


def _row(record: Record, labels: Labels) -> dict[str, Any]:
    """Return one record, flat, without its many measured numbers."""
    config, facts = record["config"], record["facts"]
    floor = facts.get("floor") or {}
    row = {name: record.get(name) for name in FIRST if name in record}
    row |= {name: facts.get(name) for name in ("family", "surface", "control", "headline")}
    row |= _named(record, labels)
    row["defense"] = "+".join(node["name"] for node in config["defense"])
    row["reason"] = ((record.get("reason") or "").strip().splitlines() or [""])[-1]
    row["stale"] = bool(labels.moved_on(config))
    row["floor_metric"], row["floor_at_least"] = floor.get("metric"), floor.get("at_least")
    row["headline_value"] = (record.get("risk") or {}).get(facts.get("headline"))
    row["utility_metric"] = next(iter(record.get("utility") or {}), None)
    return row


def _uniform(column: pd.Series) -> pd.Series:
    """Return a column of one type, for Parquet: text where any entry is text, else numbers or truth values."""
    import pandas as pd

    known = column.dropna()
    if known.map(lambda value: isinstance(value, str)).any():
        return column.map(str, na_action="ignore")
    return column if known.map(lambda value: isinstance(value, bool)).any() else pd.to_numeric(column)


# -- labels -----------------------------------------------------------------------------------------------------------
USUAL = ("dataset", "model", "setting")
"""Of these, what more than half of the records share goes without saying; of threats and defenses nothing does."""


class Labels:
    """Names of components with those parameters in which ``records`` of one dataset and scale differ.

    Packed records share the objects of equal parts: each part is looked at once, by the identity of its object.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.parts: dict[int, Any] = {}  # keeps the objects, so that no other one gets their identity
        self.parameters: dict[int, list[tuple[str, str]]] = {}
        self.moved_on = PerCell(moved_on)
        self.known: dict[Place, str] = {}
        counts: Counter[Place] = Counter()
        for record in records:
            config = record["config"]
            scale, dataset = config["scale"]["name"], config["dataset"]["name"]
            for kind in (*COMPONENTS, "defense"):
                self.parts[id(config[kind])] = config[kind]
                counts[scale, dataset, kind, id(config[kind])] += 1
        self.differing = self._compare(counts)

    def of(self, config: Mapping[str, Any], kind: str) -> str:
        """Return the label of a part of a ``config``, e.g. ``gradient_noise (std=0.1)``; of a stack those of all."""
        part = config[kind]
        place = config["scale"]["name"], config["dataset"]["name"], kind, id(part)
        if place not in self.known:
            nodes = part if kind == "defense" else [part]
            self.known[place] = " + ".join(self._label(place[:3], node) for node in nodes)
        return self.known[place]

    def _compare(self, counts: Counter[Place]) -> Differing:
        """Return the parameters that not all records of a context and name share, each with its usual value."""
        values: dict[Context, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        total: Counter[Context] = Counter()
        for (scale, dataset, kind, part_id), count in counts.items():
            part = self.parts[part_id]
            for node in part if kind == "defense" else [part]:
                context = (scale, dataset, kind, node["name"])
                total[context] += count
                for name, value in self._told(node):
                    values[context][name][value] += count
        return {
            context: {
                name: _usual(context, told, total[context])
                for name, told in found.items()
                if len(told) > 1 or told.total() < total[context]
            }
            for context, found in values.items()
        }

    def _label(self, context: Context, node: Record) -> str:
        telling = self.differing.get((*context, node["name"]), {})
        told = [(name, value) for name, value in sorted(self._told(node)) if name in telling and telling[name] != value]
        shown = [f"{name}={value}" for name, value in told]
        return f"{node['name']} ({', '.join(shown)})" if shown else str(node["name"])

    def _told(self, node: Record) -> list[tuple[str, str]]:
        if id(node) not in self.parameters:
            self.parameters[id(node)] = list(_parameters(node))
        return self.parameters[id(node)]


def _usual(context: Context, counts: Counter[str], total: int) -> str | None:
    value, count = counts.most_common(1)[0]
    return value if context[2] in USUAL and 2 * count > total else None


def _parameters(node: Record, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and value, as text, of every parameter; ``adaptive`` has its own mark."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _parameters(value, f"{prefix}{name}.")
        elif prefix or name not in ("name", "adaptive"):
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
