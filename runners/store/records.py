"""Records of cells: one JSON document a cell, in a store that survives the death of any writer at any moment."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from runners.store import gate
from runners.store.errors import StoreError
from runners.store.gate import KEY, SCHEMA, Fault, Gate

FINISHED = frozenset({"ok", "diverged"})
UNSWEPT = "unswept"
"""Table of the records that no sweep asked for."""
REMEDY = "delete it and start its sweep again."
FOLDER = re.compile(r"[0-9a-f]{2}")

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
            ``adaptive``, so that leaderboards need no class; and ``data_path``, where data lay that the config names by
            their content alone.
        utility, risk, cost, diagnostics, curves, captions: as in :class:`benchmark.outcome.Outcome`.
        media: picture -> path relative to the store.
        started: UTC, ISO 8601. seconds: wall time. peak_memory_mb: of the process, or of the GPU.
        versions: suite, git, python, torch, the libraries that components adapt and, by ``group/option`` or nested
            class, ``VERSION`` and source digest of the cell's components; the digest is None where the code was not
            known.
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

    Nothing that lies in the folder is trusted (:mod:`runners.store.gate`): what is read in bulk leaves damaged records
    out and names them once on stderr, and what is asked by key raises.
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
        return self._loose()[0]

    def _loose(self) -> tuple[dict[str, Path], list[Fault]]:
        found: dict[str, Path] = {}
        faults: list[Fault] = []
        folder = self.root / "records"
        for within in _listed(folder, faults):
            if within.is_symlink():
                faults.append(Fault(within.path, "it is a link"))
                continue
            if not within.is_dir():
                continue
            for entry in _listed(Path(within.path), faults):
                key, ending = os.path.splitext(entry.name)
                if ending != ".json" or key.startswith("."):
                    continue
                if entry.is_symlink() or not entry.is_file():
                    faults.append(Fault(entry.path, "it is a link" if entry.is_symlink() else "it is no regular file"))
                elif not KEY.fullmatch(key) or key[:2] != within.name:
                    faults.append(Fault(entry.path, "its name is not the key of a record"))
                else:
                    found[key] = Path(entry.path)
        return dict(sorted(found.items())), faults

    def packed(self) -> Tables:
        """Return the packed records as they are now."""
        from runners.store import packed  # takes a quarter of a second, for pyarrow

        return packed.tables(self.root / "records")

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the record of ``key``, or None.

        Raises:
            StoreError: it is damaged; the message says how.
        """
        try:  # the loose one first: a record that is being packed is in the table before its file is deleted
            return read_loose(self.path(key))
        except FileNotFoundError:
            packs = any((self.root / "records").glob("*.parquet"))  # pyarrow is not imported in vain
            return self.packed().read(key) if packs else None

    def sound(self, key: str) -> dict[str, Any] | None:
        """Return the record of ``key``, or None where there is none or it is damaged."""
        try:
            return self.read(key)
        except StoreError:
            return None

    def stamp(self, key: str) -> int:
        """Return a number that changes when the record of ``key`` does; 0 while there is none."""
        return _changed(self.path(key)) or self.packed().stamp(key)

    def claimed(self, key: str) -> int:
        """Return when a process last began, or waited, to play this cell (nanoseconds since the epoch); 0 for never."""
        return _changed(lock_path(self.root, key))

    def finished(self, key: str) -> bool:
        """Return whether this cell need not be run again; a damaged record does not count."""
        record = self.sound(key)
        return record is not None and record["status"] in FINISHED

    def all(self, *fields: str) -> Iterator[dict[str, Any]]:
        """Yield every sound record in the order of keys, with ``key`` and the given fields (all where none is given).

        Packed records share equal nested parts (``config``, ``facts``, ...), which nobody may change therefore. A
        reader of many records names the fields that it needs: the others are not even decoded. Damaged records are
        told at the end; where the fields have no ``config``, a packed record's key is not held against its digest.
        """
        loose, faults = self._loose()
        tables = self.packed()
        waiting = iter(loose)
        upcoming = next(waiting, None)
        for packed in tables.records(fields):
            while upcoming is not None and upcoming < packed["key"]:
                yield from self._picked(upcoming, fields, faults)
                upcoming = next(waiting, None)
            if upcoming is not None and upcoming == packed["key"]:
                ours = list(self._picked(upcoming, fields, faults))
                upcoming = next(waiting, None)
                yield from ours or [packed]
            else:
                yield packed
        while upcoming is not None:
            yield from self._picked(upcoming, fields, faults)
            upcoming = next(waiting, None)
        gate.tell(self.root, [*faults, *tables.faults])

    def columns(self, *names: str) -> dict[str, list[Any]]:
        """Return columns of the packed form (:mod:`runners.store.packed`) for every record, in the order of keys.

        The fastest way to ask a few flat things of many records: no text is parsed and no record is put together. Of
        packed records only what :meth:`runners.store.packed.Table.index` looks at is checked.
        """
        loose, faults = self._loose()
        if not (loose or faults or any((self.root / "records").glob("*.parquet"))):  # pyarrow is not imported in vain
            return {name: [] for name in names}
        from runners.store.columns import flat

        tables = self.packed()
        rows = tables.rows(names)
        for key in loose:
            for record in self._picked(key, (), faults):
                values = flat(record)
                rows[key] = tuple(values.get(name) for name in names)
        gate.tell(self.root, [*faults, *tables.faults])
        ordered = [rows[key] for key in sorted(rows)]
        return {name: [row[i] for row in ordered] for i, name in enumerate(names)}

    def _picked(self, key: str, fields: Collection[str], faults: list[Fault]) -> Iterator[dict[str, Any]]:
        """Yield the loose record of ``key`` unless it is damaged, which is added to ``faults``, or gone meanwhile."""
        try:
            record = read_loose(self.path(key))
        except Damaged as error:
            faults.append(error.fault)
        except FileNotFoundError:
            if (moved := self.packed().read(key)) is not None:
                yield _only(moved, fields)
        else:
            yield _only(record, fields)

    def find(self, prefix: str) -> dict[str, Any]:
        """Return the one record whose key begins with ``prefix``.

        Raises:
            StoreError: there is none, or more than one.
        """
        loose, _ = self._loose()
        keys = {key for key in loose if key.startswith(prefix)} | {*self.packed().beginning(prefix)}
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
            StoreError: the disk is full or the folder cannot be written, or :meth:`keeps` the earlier one, which is
                untouched in any case.
            ValueError: the record holds NaN or infinity.
        """
        path = self.path(record.key)
        text = json.dumps(asdict(record), allow_nan=False, indent=1)
        if (kept := self.keeps(record.key, record.status)) is not None:
            raise StoreError(f"The record {record.key[:16]} is {kept} and is kept; the new one is {record.status}.")
        self.put(path, text.encode(), "record")
        return path

    def keeps(self, key: str, status: str) -> str | None:
        """Return the status of the record of ``key`` if one with ``status`` must not replace it, else None.

        An ``ok`` record is only ever replaced by an ``ok`` one, a ``diverged`` one by a finished one.
        """
        earlier = self.sound(key)
        worth = ("diverged", "ok")
        rank = {name: place for place, name in enumerate(worth, start=1)}
        if earlier is None or rank.get(status, 0) >= rank.get(earlier["status"], 0):
            return None
        return str(earlier["status"])

    def put(self, path: Path, content: bytes, what: str) -> None:
        """Write ``content`` at ``path`` in the store, through no link.

        Raises:
            StoreError: the disk is full, or the folder cannot be written or leads out of the store.
        """
        if not gate.is_inside(self.root, path.parent):
            raise StoreError(f"The {what} {path} is not written: a folder on the way is a link out of the store.")
        try:
            write_atomically(path, content)
        except OSError as error:
            raise StoreError(f"The {what} {path} could not be written: {error.strerror}.") from error

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
    """Write all of ``content`` to ``path``, or nothing, even if power fails in between; its mode follows the umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Return a hidden name in the folder of ``path`` that nobody else uses."""
    return path.with_name(f".{path.stem[:16]}-{secrets.token_hex(4)}")


def sync_folder(folder: Path) -> None:
    """Make durable which files ``folder`` has."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _only(record: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
    return {name: record[name] for name in record if name in fields or name == "key"} if fields else record


def _listed(folder: Path, faults: list[Fault]) -> list[os.DirEntry[str]]:
    """Return what lies in ``folder``; nothing where it cannot be read or is a link, which is added to ``faults``."""
    try:
        if stat.S_ISLNK(os.lstat(folder).st_mode):
            raise NotADirectoryError(0, "it is a link")
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(Fault(str(folder), str(error.strerror)))
        return []


class Damaged(StoreError):
    """A record that does not pass the gate."""

    def __init__(self, fault: Fault) -> None:
        place, reason = map(gate.visible, fault)
        super().__init__(f"{place} cannot be read as a record ({reason}); {REMEDY}")
        self.fault = fault


def read_loose(path: Path) -> dict[str, Any]:
    """Read the record in the file ``path`` and hold it against the schema and its key.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: it holds no record, or another one than its name says.
    """
    try:
        record: dict[str, Any] = gate.parse(gate.read_file(path, gate.LARGEST))
        fault = Gate().fault(record, path.stem)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(str(path)) from error
    except (OSError, ValueError, StoreError) as error:
        raise Damaged(Fault(str(path), str(error))) from error
    if fault:
        raise Damaged(Fault(str(path), fault))
    return record
