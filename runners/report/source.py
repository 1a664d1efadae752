"""Records for reports, in a form of which hundreds of thousands fit into memory."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from runners.config.identity import canonical
from runners.store import table
from runners.store.gate import is_inside

Record = dict[str, Any]
Line = Mapping[str, Any]

NUMBERS = ("utility", "risk", "cost", "diagnostics")
PLAIN = ("key", "status", "sweep", "seed", "seconds")
NAMED = (
    *("key", "status", "reason", "dataset", "model", "setting", "threat", "defense", "scale"),
    *("dataset_label", "model_label", "setting_label", "threat_label", "defense_label"),
    *("surface", "adaptive", "control", "headline", "floor_metric", "floor_at_least", "stale"),
)
SAFE = re.compile(r"media/[\w./-]+\.png", flags=re.ASCII)


def read(store: Path) -> list[Record]:
    """Return the records of a store as :func:`compact` does; of pictures only those that lie in its ``media/``."""
    return list(compact(_with_own_pictures(record, store) for record in table.read_all(store)))


def compact(records: Iterable[Record], like: Iterable[Record] = ()) -> Iterator[Record]:
    """Yield each record without versions, curves and captions; equal parts of cells become one object.

    Parts of ``config`` are equal exactly where they are identical, so that the ``id`` of a part stands for its content;
    so it does among them and the records ``like``, which were made compact before.
    """
    kept_alive = {id(part): part for record in like for part in record["config"].values()}
    shared = {canonical(part): part for part in kept_alive.values()}

    def one(part: Any) -> Any:
        if kept_alive.get(id(part)) is not part:
            part = shared.setdefault(canonical(part), part)
            kept_alive[id(part)] = part
        return part

    for record in records:
        kept = {name: record.get(name) for name in PLAIN}
        kept |= {name: _interned(record.get(name)) for name in NUMBERS}
        kept["config"] = {name: one(part) for name, part in record["config"].items()}
        kept |= {"facts": one(record["facts"]), "reason": record.get("reason") or ""}
        yield kept | {"media": record.get("media") or {}}


def lines(records: Sequence[Record]) -> list[Line]:
    """Return a flat line for each record, in the order of the table, with labels that tell ``records`` apart.

    A line has the columns :data:`NAMED` of the table, ``headline_value``, ``utility_metric``, and every entry of
    ``utility.*``, ``risk.*``, ``cost.*`` and ``media.*`` that its record has.
    """
    frame = table.frame_of(
        [{name: record[name] for name in (*PLAIN, "reason", "config", "facts")} for record in records]
    )
    by_key = {record["key"]: record for record in records}
    columns = [map(_none_for_nan, frame[name].tolist()) for name in NAMED]
    return [_line(dict(zip(NAMED, values, strict=True)), by_key) for values in zip(*columns, strict=True)]


def _line(line: dict[str, Any], by_key: dict[str, Record]) -> Line:
    record = by_key[line["key"]]
    line["seed"] = record["seed"]
    line["headline_value"] = record["risk"].get(line["headline"])
    line["utility_metric"] = next(iter(record["utility"]), None)
    for group in ("utility", "risk", "cost", "media"):
        line.update((f"{group}.{name}", value) for name, value in record[group].items())
    return line


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _interned(values: dict[str, Any] | None) -> dict[str, Any]:
    return {sys.intern(name): value for name, value in (values or {}).items()}


def _with_own_pictures(record: Record, store: Path) -> Record:
    media = {name: path for name, path in (record.get("media") or {}).items() if _is_picture(store, path)}
    return {**record, "media": media}


def _is_picture(store: Path, path: Any) -> bool:
    """Return whether ``path`` names a file in the store's ``media/``; a stranger's record may name any file."""
    if not isinstance(path, str) or not SAFE.fullmatch(path) or ".." in PurePosixPath(path).parts:
        return False
    return is_inside(store, store / path) and (store / path).is_file()
