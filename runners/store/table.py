"""All records of a store as one table: a row a record.

Reads JSON only, never torch, so that a table of thousands of records is there within a second or two.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import GauntletError
from runners.store.records import Store
from runners.store.staleness import moved_on

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]
Context = tuple[str, ...]
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


def load(store: Path) -> pd.DataFrame:
    """The table of ``<store>/records``, in an order that depends on the records alone; empty when there are none.

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


def frame_of(records: list[Record]) -> pd.DataFrame:
    """The table of ``records``, whatever their order; see :func:`load`."""
    import pandas as pd

    frame = pd.DataFrame(_rows(records))
    frame = frame.reindex(columns=[*FIRST, *sorted(set(frame.columns) - set(FIRST))])
    for column in frame:
        if pd.api.types.is_object_dtype(frame[column]):
            frame[column] = _uniform(frame[column])
    return frame


def rows(store: Path) -> list[dict[str, Any]]:
    """The rows of :func:`load` as plain data, in the same order; pandas is not imported, which takes a second."""
    return _rows(read_all(store))


def read_all(store: Path) -> list[Record]:
    """Every record of a store, by key, with the fields that tables, boards and claims are made of; see :func:`load`.

    Parts of equal content may be one object, so nobody may change them.
    """
    return list(Store(store).all(*READ))


def _rows(records: list[Record]) -> list[dict[str, Any]]:
    differing = _differing(records)
    found = [_row(record, differing) for record in records]
    return sorted(found, key=lambda row: [row[name] for name in ORDER])


def select(frame: pd.DataFrame, query: str) -> pd.DataFrame:
    """The rows that ``query`` keeps, in the language of :meth:`pandas.DataFrame.query`.

    Raises:
        GauntletError: pandas cannot make sense of it.
    """
    try:
        return frame.query(query)
    except Exception as error:  # whatever pandas' parser raises
        raise GauntletError(
            f"The query {query!r} cannot be answered: {str(error).splitlines()[0]}. "
            "Columns with a dot stand in backticks (`risk.ssim` > 0.5), texts in quotes (threat == 'leakage_dlg')."
        ) from error


def write(frame: pd.DataFrame, path: Path) -> list[Path]:
    """Write ``frame`` as ``path`` with the endings ``.parquet`` and ``.csv``; give both paths."""
    return [write_as(frame, kind, path.with_suffix(f".{kind}")) for kind in ("parquet", "csv")]


def write_as(frame: pd.DataFrame, kind: str, path: Path) -> Path:
    """Write ``frame`` to ``path`` as ``csv`` or ``parquet``; give the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "csv":
        frame.to_csv(path, index=False, lineterminator="\n")
    else:
        frame.to_parquet(path, index=False)
    return path


def _row(record: Record, differing: Differing) -> dict[str, Any]:
    """One record, flat."""
    config, facts = record["config"], record["facts"]
    floor = facts.get("floor") or {}
    row = {name: record.get(name) for name in FIRST if name in record}
    row |= {name: facts.get(name) for name in ("family", "surface", "control", "headline")}
    # A cell that failed before its threat could be imported has no facts.
    row["adaptive"] = bool(facts.get("adaptive", config["threat"].get("adaptive", False)))
    row |= {kind: config[kind]["name"] for kind in COMPONENTS}
    row |= {f"{kind}_label": _label(record, kind, config[kind], differing) for kind in COMPONENTS}
    if row["adaptive"]:
        row["threat_label"] = f"{row['threat_label']} · adaptive"
    row["defense"] = "+".join(node["name"] for node in config["defense"])
    row["defense_label"] = " + ".join(_label(record, "defense", node, differing) for node in config["defense"])
    row["scale"] = config["scale"]["name"]
    row["reason"] = ((record.get("reason") or "").strip().splitlines() or [""])[-1]
    row["stale"] = bool(moved_on(config))
    row["floor_metric"], row["floor_at_least"] = floor.get("metric"), floor.get("at_least")
    row["headline_value"] = (record.get("risk") or {}).get(facts.get("headline"))
    row["utility_metric"] = next(iter(record.get("utility") or {}), None)
    for group in ("utility", "risk", "cost", "diagnostics", "media"):
        row |= {f"{group}.{name}": value for name, value in (record.get(group) or {}).items()}
    return row


def _uniform(column: pd.Series) -> pd.Series:
    """A column of one type, as Parquet wants it: text where any entry is text, else numbers or truth values."""
    import pandas as pd

    known = column.dropna()
    if known.map(lambda value: isinstance(value, str)).any():
        return column.map(str, na_action="ignore")
    return column if known.map(lambda value: isinstance(value, bool)).any() else pd.to_numeric(column)


# -- labels -----------------------------------------------------------------------------------------------------------
USUAL = ("dataset", "model", "setting")
"""Of these, what more than half of the records share goes without saying; of threats and defenses nothing does."""


def _differing(records: list[Record]) -> dict[Context, dict[str, str | None]]:
    """(scale, dataset, kind, name) -> the parameters that not all of its records share, each with its usual value."""
    values: dict[Context, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    total: Counter[Context] = Counter()
    for record in records:
        nodes = [(kind, record["config"][kind]) for kind in COMPONENTS]
        nodes += [("defense", node) for node in record["config"]["defense"]]
        for kind, node in nodes:
            context = _context(record, kind, node)
            total[context] += 1
            for name, value in _parameters(node):
                values[context][name][value] += 1
    return {
        context: {
            name: _usual(context, counts, total[context])
            for name, counts in found.items()
            if len(counts) > 1 or counts.total() < total[context]
        }
        for context, found in values.items()
    }


def _usual(context: Context, counts: Counter[str], total: int) -> str | None:
    value, count = counts.most_common(1)[0]
    return value if context[2] in USUAL and 2 * count > total else None


def _context(record: Record, kind: str, node: Record) -> Context:
    config = record["config"]
    return config["scale"]["name"], config["dataset"]["name"], kind, node["name"]


def _label(record: Record, kind: str, node: Record, differing: Differing) -> str:
    """The node's name with the parameters that tell it from others of that name, e.g. ``gradient_noise (std=0.1)``."""
    telling = differing.get(_context(record, kind, node), {})
    told = [(name, value) for name, value in sorted(_parameters(node)) if name in telling and telling[name] != value]
    shown = [f"{name}={value}" for name, value in told]
    return f"{node['name']} ({', '.join(shown)})" if shown else str(node["name"])


def _parameters(node: Record, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and value, as text, of every parameter; ``adaptive`` has its own mark."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _parameters(value, f"{prefix}{name}.")
        elif prefix or name not in ("name", "adaptive"):
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
