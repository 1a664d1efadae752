"""Packing: finished records of a working store moved into the tables of a published one (:mod:`runners.store.packed`).

A table is complete on the disk before the first loose record is deleted, so a process that is killed at any moment
loses nothing: what is in both forms is the same record, and the next call deletes what the last one left.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock

from runners.config.identity import digest
from runners.store import gate, packed
from runners.store.merge import clashes, copy_picture
from runners.store.place import existing
from runners.store.records import FINISHED, Damaged, Store, StoreError, lock_path, read_loose

Record = dict[str, Any]


@dataclass
class Result:
    """Keys by the result of packing.

    Attributes:
        added: new in the published store. replaced: unfinished there before, or the same numbers by another run.
        kept: the published store has the very record. unfinished: stay where they are.
        conflicts: published already with a different outcome: key -> the fields that differ. Stay where they are.
        tables: the tables that were written or, where nothing was left in them, deleted.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    conflicts: dict[str, list[str]] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _Taken:
    """Loose record that is moved: its file, when that was written, and the tables that it changes."""

    path: Path
    stamp: int
    table: Path
    pictures: bool


def pack(source: Store, into: Store, pictures: Sequence[str] = ()) -> Result:
    """Move the finished loose records of ``source`` into the tables of ``into``, which may be the same store.

    Args:
        pictures: patterns of sweeps whose pictures are taken along, of the lowest seed of each cell. A record keeps
            the paths of those pictures that ``into`` has.

    Raises:
        StoreError: ``source`` is no store, a table that is to be written anew is damaged, or a file cannot be written.
            Records that are not in a table by then are where they were.
    """
    existing(source.root)
    result = Result()
    with FileLock(lock_path(into.root, "pack")):
        published = into.packed()
        taken = _choose(source, into, published, pictures, result)
        changed = {key: one for key, one in taken.items() if key not in result.kept}
        if source.root.resolve() != into.root.resolve():
            _copy_pictures(source, into, changed)
        for path, keys in sorted(_by_table(published, changed).items()):
            _rewrite(path, published, keys, changed, into)
            result.tables.append(path)
        for key, one in taken.items():
            _delete(source, into, key, one)
    return result


def _choose(
    source: Store, into: Store, published: packed.Tables, pictures: Sequence[str], result: Result
) -> dict[str, _Taken]:
    """Return the records to move, by key, and enter each record into ``result``."""
    apart = source.root.resolve() != into.root.resolve()
    lowest: dict[str, tuple[int, str]] = {}
    taken: dict[str, _Taken] = {}
    faults: list[gate.Fault] = []
    for key, path in source.loose().items():
        stamp = source.stamp(key)
        try:
            record = read_loose(path)
        except Damaged as error:
            faults.append(error.fault)
            continue
        if record["status"] not in FINISHED:
            result.unfinished.append(key)
            continue
        ours = [found for found in (into.sound(key) if apart else None, published.read(key)) if found is not None]
        done = [one for one in ours if one["status"] in FINISHED]
        if fields := sorted({name for one in done for name in clashes(one, record)}):
            result.conflicts[key] = fields
            continue
        with_pictures = any(fnmatch(str(record["sweep"]), pattern) for pattern in pictures)
        if with_pictures:
            cell = digest({part: value for part, value in record["config"].items() if part != "seed"})
            lowest[cell] = min(lowest.get(cell, (record["seed"], key)), (record["seed"], key))
        taken[key] = _Taken(path, stamp, into.table(record["sweep"]), with_pictures)
        same = ours and ours[-1] == _as_published(into, record) and key in published.places
        (result.kept if same else result.replaced if ours else result.added).append(key)
    gate.tell(source.root, faults)
    first = {key for _, key in lowest.values()}
    return {key: _Taken(one.path, one.stamp, one.table, key in first) for key, one in taken.items()}


def _copy_pictures(source: Store, into: Store, taken: Mapping[str, _Taken]) -> None:
    for one in taken.values():
        if one.pictures:
            record = read_loose(one.path)
            for relative in record["media"].values():
                copy_picture(source, into, record["key"], relative)


def _by_table(published: packed.Tables, taken: Mapping[str, _Taken]) -> dict[Path, set[str]]:
    """Return the keys that each table gains or loses; a record whose sweep has changed leaves its old table."""
    found: dict[Path, set[str]] = defaultdict(set)
    for key, one in taken.items():
        found[one.table].add(key)
        for table in published.holding(key):
            found[table.path].add(key)
    return found


def _rewrite(path: Path, published: packed.Tables, keys: set[str], taken: Mapping[str, _Taken], into: Store) -> None:
    """Write the table ``path`` anew, with those of ``keys`` that belong there."""
    old = next((table for table in published.tables if table.path == path), None)
    if path in published.unreadable or (old and not old.sound()):
        faults = published.unreadable.get(path) or next(iter(old.faults.values()))  # type: ignore[union-attr]
        raise StoreError(f"The table {path} is damaged and is not written anew: {gate.visible(faults.reason)}")
    if not gate.is_inside(into.root, path):
        raise StoreError(f"The table {path} is not written: it or its folder is a link.")
    new = sorted(key for key in keys if taken[key].table == path)

    def records() -> Iterator[Record]:
        before = (record for record in old.records() if record["key"] not in keys) if old else iter(())
        added = (_as_published(into, read_loose(taken[key].path)) for key in new)
        return heapq.merge(before, added, key=lambda record: record["key"])

    if next(records(), None) is None:
        path.unlink()
    else:
        packed.write(path, records)


def _as_published(into: Store, record: Record) -> Record:
    """``record`` with the paths of those pictures that ``into`` has, and without where its user's data lay."""
    changed: Record = {}
    if "media" in record:
        changed["media"] = {name: path for name, path in record["media"].items() if _has(into, path)}
    if "data_path" in record.get("facts", {}):
        changed["facts"] = {name: fact for name, fact in record["facts"].items() if name != "data_path"}
    return record | changed


def _has(into: Store, path: str) -> bool:
    return gate.is_inside(into.root, into.root / path) and (into.root / path).is_file()


def _delete(source: Store, into: Store, key: str, one: _Taken) -> None:
    """Delete the loose record, unless it was replaced meanwhile, and an older loose one of ``into``."""
    with source.claim(key):
        if source.stamp(key) != one.stamp:
            return
        one.path.unlink(missing_ok=True)
    with into.claim(key):
        into.path(key).unlink(missing_ok=True)
