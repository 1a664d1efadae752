"""Merging of records made elsewhere (another machine, a cluster) into one store, with a report of conflicts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runners.store import gate
from runners.store.place import existing
from runners.store.records import FINISHED, Store, StoreError

SCIENCE = ("status", "utility", "risk", "cost", "diagnostics", "curves", "data")
PNG = b"\x89PNG\r\n\x1a\n"
CLOCKS = ("seconds",)  # part of an outcome, but never the same twice


@dataclass
class Merged:
    """Keys by the result of merging.

    Attributes:
        added: only the other store had them. replaced: unfinished here, finished there.
        kept: the same outcome in both, or nothing better there.
        conflicts: finished in both with different outcomes: key -> the fields that differ. Ours was kept.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    conflicts: dict[str, list[str]] = field(default_factory=dict)


def merge(store: Store, other: Store) -> Merged:
    """Take into ``store`` the records of ``other`` that it lacks; ``other`` is not changed. Harmless when repeated.

    Only sound records are taken, and of their pictures those that are their own. A damaged record of ``store`` counts
    as none.

    Raises:
        StoreError: ``other`` is no store, or is ``store`` itself.
    """
    existing(other.root)
    if other.root.resolve() == store.root.resolve():
        raise StoreError(f"{other.root} is the store itself; give the folder of another one.")
    merged = Merged()
    for theirs in other.all():
        key = str(theirs["key"])
        with store.claim(key):
            ours = store.sound(key)
            if ours is None:
                merged.added.append(key)
            elif not _finished(ours) and _finished(theirs):
                merged.replaced.append(key)
            elif _finished(ours) and _finished(theirs) and (fields := clashes(ours, theirs)):
                merged.conflicts[key] = fields
                continue
            else:
                merged.kept.append(key)
                continue
            _take(store, other, theirs)
    return merged


def clashes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of measurements in which two records of one cell differ; times may differ."""
    return [
        f"{section}.{name}" if name else section
        for section in SCIENCE
        for name in _names(ours.get(section), theirs.get(section))
        if _pick(ours.get(section), name) != _pick(theirs.get(section), name) and not name.endswith(CLOCKS)
    ]


def _finished(record: Mapping[str, Any]) -> bool:
    return record["status"] in FINISHED


def _names(*sections: Any) -> list[str]:
    if not all(isinstance(section, Mapping) for section in sections):
        return [""]
    return sorted({name for section in sections for name in section})


def _pick(section: Any, name: str) -> Any:
    return section.get(name) if name else section


def _take(store: Store, other: Store, record: Mapping[str, Any]) -> None:
    """Copy pictures, then the record: a record must never point at a picture that is not there yet."""
    for relative in record["media"].values():
        copy_picture(other, store, str(record["key"]), relative)
    text = json.dumps(record, allow_nan=False, indent=1)
    store.put(store.path(str(record["key"])), text.encode(), "record")


def copy_picture(source: Store, into: Store, key: str, relative: str) -> None:
    """Copy the picture ``relative`` of the record ``key``; one that ``source`` lost, or that is no PNG, is passed over.

    Raises:
        StoreError: the path is not that of a picture of this record, or a folder of ``into`` is a link.
    """
    if not gate.is_picture(relative, key):
        raise StoreError(f"The record {key[:16]} of {source.root} names a picture that is not its own: {relative!r}.")
    path = source.root / relative
    if not gate.is_inside(source.root, path):
        return
    try:
        content = gate.read_file(path, gate.LARGEST_PICTURE)
    except (FileNotFoundError, StoreError):
        return
    if content.startswith(PNG):
        into.put(into.root / relative, content, "picture")
