"""Records of cells: one JSON document a cell, in a store that survives the death of any writer at any moment."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from runners.store.errors import StoreError

SCHEMA = 2
FINISHED = frozenset({"ok", "diverged"})
UNSWEPT = "unswept"
"""Table of the records that no sweep asked for."""
REMEDY = "delete it and start its sweep again."
NEEDED = {"key", "status", "config", "facts", "seed"}

if TYPE_CHECKING:
    from runners.store.packed import Tables


@dataclass(frozen=True, kw_only=True)
class Record:
    """Result of playing a cell, or the reason why there is none.

    Attributes:
        key: SHA-256 over ``config``, the identity of the cell (:mod:`runners.config.identity`).
        status: ``ok``, ``failed``, ``timeout`` or ``diverged``.
        reason: why it is not ``ok``, or which numbers were not finite; else empty.
        facts: of the threat's class: ``family``, ``setting``, ``surface``, ``headline``, ``floor``, ``control``,
            ``adaptive``, so that leaderboards need no class.
        utility, risk, cost, diagnostics, curves, captions: as in :class:`benchmark.outcome.Outcome`.
        media: picture -> path relative to the store.
        started: UTC, ISO 8601. seconds: wall time. peak_memory_mb: of the process, or of the GPU.
        versions: suite, git, python, torch and, by ``group/option`` or nested class, ``VERSION`` and source digest of
            the cell's components; the digest is None where the code was not known.
        data: digest of the data used.
    """

    schema: int = SCHEMA
    key: str
    sweep: str | None
    status: str
    reason: str
    config: dict[str, Any]
    facts: dict[str, Any]
    utility: dict[str, float | None] = field(default_factory=dict)
    risk: dict[str, float | None] = field(default_factory=dict)
    cost: dict[str, float | None] = field(default_factory=dict)
    diagnostics: dict[str, float | str | None] = field(default_factory=dict)
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    seed: int
    started: str
    seconds: float
    peak_memory_mb: float | None
    device: str
    versions: dict[str, Any]
    data: str | None


def finite(section: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return ``values`` with None in place of NaN and infinity, and where those were (``risk.psnr_db is nan``)."""
    clean: dict[str, Any] = {}
    lost: list[str] = []
    for name, value in values.items():
        if isinstance(value, list):
            clean[name] = [item if math.isfinite(item) else None for item in value]
            if None in clean[name]:
                lost.append(f"{section}.{name} has values that are not finite")
        elif isinstance(value, float) and not math.isfinite(value):
            clean[name] = None
            lost.append(f"{section}.{name} is {value}")
        else:
            clean[name] = value
    return clean, lost


class Store:
    """Folder of ``store=PATH`` with ``records/``, ``media/``, ``cache/``, ``boards/`` and ``site/``.

    Records are written as one JSON file a cell; ``gauntlet pack`` puts them into one table a sweep
    (:mod:`runners.store.packed`). Both forms are read; a JSON file counts more than a row of the same key.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """Return the path of the loose record of ``key``, whether or not there is one."""
        return self.root / "records" / key[:2] / f"{key}.json"

    def table(self, sweep: str | None) -> Path:
        """Return the path of the packed records of ``sweep``."""
        name = re.sub(r"[^\w.=-]+", "-", sweep or UNSWEPT, flags=re.ASCII)
        return self.root / "records" / f"{name}.parquet"

    def loose(self) -> dict[str, Path]:
        """Return the file of every loose record, by key."""
        return {path.stem: path for path in sorted(self.root.glob("records/*/[0-9a-f]*.json"))}

    def packed(self) -> Tables:
        """Return the packed records as they are now."""
        from runners.store import packed  # takes a quarter of a second, for pyarrow

        return packed.tables(self.root / "records")

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the record of ``key``, or None."""
        try:  # the loose one first: a record that is being packed is in the table before its file is deleted
            return read_loose(self.path(key))
        except FileNotFoundError:
            return self.packed().read(key)

    def stamp(self, key: str) -> int:
        """Return a number that changes when the record of ``key`` does; 0 while there is none."""
        return _changed(self.path(key)) or self.packed().stamp(key)

    def claimed(self, key: str) -> int:
        """Return when a process last began, or waited, to play this cell (nanoseconds since the epoch); 0 for never."""
        return _changed(lock_path(self.root, key))

    def finished(self, key: str) -> bool:
        """Return whether this cell need not be run again."""
        try:
            return read_loose(self.path(key))["status"] in FINISHED
        except FileNotFoundError:
            return self.packed().status(key) in FINISHED

    def all(self, *fields: str) -> Iterator[dict[str, Any]]:
        """Yield every record in the order of keys, with ``key`` and the given fields (all fields where none is given).

        Packed records share equal nested parts (``config``, ``facts``, ...), so callers must not modify them. A reader
        of many records names the fields that it needs: the others are not even decoded.

        Raises:
            StoreError: a file cannot be read; the message names it.
        """
        loose = self.loose()
        waiting = iter(loose)
        upcoming = next(waiting, None)
        for packed in self.packed().records(fields):
            while upcoming is not None and upcoming < packed["key"]:
                yield self._picked(upcoming, fields)
                upcoming = next(waiting, None)
            if upcoming != packed["key"]:
                yield packed
        while upcoming is not None:
            yield self._picked(upcoming, fields)
            upcoming = next(waiting, None)

    def columns(self, *names: str) -> dict[str, list[Any]]:
        """Return columns of the packed form (:mod:`runners.store.packed`) for every record, in the order of keys.

        The fastest way to read a few flat fields of many records: no text is parsed and no record is put together.
        """
        from runners.store import packed

        loose = self.loose()
        rows = self.packed().rows(names)
        for key in loose:
            record = self.read(key)
            if record is not None:
                flat = packed.flat(record)
                rows[key] = tuple(flat.get(name) for name in names)
        ordered = [rows[key] for key in sorted(rows)]
        return {name: [row[i] for row in ordered] for i, name in enumerate(names)}

    def _picked(self, key: str, fields: Collection[str]) -> dict[str, Any]:
        record = self.read(key)
        if record is None:
            raise StoreError(f"The record {self.path(key)} was deleted while the store was read; try again.")
        return {name: record[name] for name in record if name in fields or name == "key"} if fields else record

    def find(self, prefix: str) -> dict[str, Any]:
        """Return the one record whose key begins with ``prefix``.

        Raises:
            StoreError: there is none, or more than one.
        """
        keys = {path.stem for path in self.root.glob(f"records/*/{prefix}*.json")} | {*self.packed().beginning(prefix)}
        record = self.read(keys.pop()) if len(keys) == 1 else None
        if record is None:
            what = f"{len(keys)} records" if keys else "No record"
            raise StoreError(
                f"{what} in {self.root} with a key that begins with {prefix!r}; `gauntlet table` lists all."
            )
        return record

    def write(self, record: Record) -> Path:
        """Make ``record`` durable, in place of an earlier one of the same cell.

        Raises:
            StoreError: the disk is full or the folder cannot be written; earlier records are untouched.
            ValueError: the record holds NaN or infinity.
        """
        path = self.path(record.key)
        text = json.dumps(asdict(record), allow_nan=False, indent=1)
        try:
            write_atomically(path, text.encode())
        except OSError as error:
            raise StoreError(f"The record {path} could not be written: {error.strerror}.") from error
        return path

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Hold a cell so that no other process on this store plays it at the same time; waits for its holder."""
        path = lock_path(self.root, key)
        with FileLock(path):
            now = time.time_ns()
            os.utime(path, ns=(now, now))
            yield


def lock_path(root: Path, key: str) -> Path:
    """Return the path of the lock for ``key``, and make its folder. A lock is freed by the death of its holder."""
    folder = root / "cache" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{key}.lock"


def write_atomically(path: Path, content: bytes) -> None:
    """Write all of ``content`` to ``path``, or nothing, even if power fails in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:16]}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def read_loose(path: Path) -> dict[str, Any]:
    """Read the record in the file ``path``.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: it holds no record.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        missing = NEEDED - set(record)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} cannot be read as a record ({error}); {REMEDY}") from error
    if missing:
        raise StoreError(f"{path} is not a record: it lacks {', '.join(sorted(missing))}; {REMEDY}")
    return record
