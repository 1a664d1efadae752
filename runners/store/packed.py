"""Published form of records: one Parquet table a sweep, a row a cell, sorted by key.

A column of numbers or texts for whatever people sort and filter by, and JSON text for what is nested: one column for
each part of ``config`` (few parts are distinct, so they are stored and parsed once), and ``facts``, ``versions``,
``curves``, ``captions``, ``media``. The column ``layout`` tells which entries a record has, in which order and of which
JSON type, so that the record read back equals the one that was packed, to the last bit. The bytes of a table depend on
its records (and on pyarrow's version) alone.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import operator
import os
import secrets
import stat
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runners.store import columns, gate
from runners.store.columns import DERIVED, FLOAT, NULL, SPREAD, TEXT, TRUTH, Record
from runners.store.errors import StoreError
from runners.store.gate import Fault, Gate

TYPED: dict[str, Callable[[pa.DataType], bool]] = {
    **dict.fromkeys(("key", "status", "layout", "config.seed"), pa.types.is_string),
    **dict.fromkeys(("seed", "schema"), pa.types.is_int64),
    "seconds": pa.types.is_float64,
}
"""Columns that every table has, with what their type must be."""

ROWS = 4096
"""Rows of a row group, the part of a table that is decoded for a single record."""
BATCH = 512
KEPT_GROUPS = 4
MOST_ROWS, MOST_BYTES = 5_000_000, 4 << 30  # of a table, as its footer promises
RACY = 100_000_000  # ns: a folder that changed so lately may change again without a new time stamp


# -- writing ----------------------------------------------------------------------------------------------------------
def write(path: Path, records: Callable[[], Iterable[Record]]) -> None:
    """Write ``records`` as the table ``path``: all of it or nothing, and only if reading gives the same records.

    Args:
        path: the table; replaced if it exists.
        records: gives the records by ascending key; called three times, so that few are in memory at a time.

    Raises:
        StoreError: the disk is full or the folder cannot be written, or a record does not survive.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = columns.schema(records())
    temporary = path.with_name(f".{path.stem[:16]}-{secrets.token_hex(4)}")
    try:
        with pq.ParquetWriter(
            temporary, schema, compression="zstd", compression_level=9, store_schema=False, write_statistics=["key"]
        ) as writer:
            source = iter(records())
            while chunk := list(itertools.islice(source, ROWS)):
                writer.write_table(columns.table(chunk, schema))
        _verify(temporary, records())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"The table {path} could not be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _verify(path: Path, records: Iterable[Record]) -> None:
    for packed, record in itertools.zip_longest(Table(path).records(), records):
        if json.dumps(packed) != json.dumps(record):
            raise StoreError(f"The record {record['key']} cannot be packed without loss; it stays as it is.")


# -- reading ----------------------------------------------------------------------------------------------------------
class Table:
    """A packed sweep, memory-mapped; at first nothing but its footer is read.

    Attributes:
        faults: key -> the damaged record, of those that were met so far.

    Raises:
        StoreError: the file is not a table of records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: dict[str, Fault] = {}
        with self._readable():
            state = os.lstat(path)
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("it is a link or no regular file")
            self.stamp = state.st_mtime_ns
            self.file = pq.ParquetFile(path, memory_map=True)
            told = self.file.metadata
            size = sum(told.row_group(group).total_byte_size for group in range(told.num_row_groups))
            if told.num_rows > MOST_ROWS or size > MOST_BYTES:
                raise ValueError(f"it promises {told.num_rows} rows of {size} bytes in all")
            types = {field.name: field.type for field in self.file.schema_arrow}
            self.names: list[str] = list(types)
            for name, fits in TYPED.items():
                if name not in types or not fits(types[name]):
                    raise ValueError(f"it has no column {name} of the right type")
        self.groups: OrderedDict[int, pa.Table] = OrderedDict()

    def index(self) -> tuple[list[str], list[str]]:
        """Return keys and statuses, by row, of the rows that pass the checks of whole columns.

        That is: keys are digests in ascending order, the schema is today's, statuses are known, seeds agree with the
        cell's, seconds are finite. The others are told in ``faults`` and have the key ``""``. Whether a key is the
        digest of its config is asked when the config is read (:meth:`records`, :meth:`read`).

        Raises:
            StoreError: the rows are not in the order of their keys.
        """
        with self._readable():
            read = self.file.read(columns=[name for name in TYPED if name != "layout"], use_threads=False)
            table = {name: read[name].to_pylist() for name in read.column_names}
            keys: list[str] = table["key"]
            if None in keys or any(a >= b for a, b in itertools.pairwise(keys)):
                raise ValueError("its rows are not in the order of their keys")
            is_key, statuses = gate.KEY.fullmatch, frozenset(gate.STATUSES)
            checks = {
                "its key is no key": [is_key(key) is not None for key in keys],
                f"its schema is not {gate.SCHEMA}": [schema == gate.SCHEMA for schema in table["schema"]],
                "its status is unknown": [status in statuses for status in table["status"]],
                "its seed is not that of its cell": list(
                    map(operator.eq, map(str, table["seed"]), table["config.seed"])
                ),
                "its seconds are no time": [s is not None and 0 <= s < math.inf for s in table["seconds"]],
            }
            for reason, passed in checks.items():
                if not all(passed):
                    for key, passes in zip(keys, passed, strict=True):
                        if not passes:
                            self._damaged(key, reason)
            return ["" if key in self.faults else key for key in keys] if self.faults else keys, table["status"]

    def _damaged(self, key: str, reason: str) -> None:
        self.faults.setdefault(key, Fault(f"{self.path}, record {key[:16]}", reason))

    def columns(self, names: Sequence[str]) -> list[list[Any]]:
        """Return the values of columns, by row; a column that the table lacks is all None."""
        with self._readable():
            found = self.file.read(columns=[name for name in {*names} if name in self.names], use_threads=False)
            absent = [None] * self.file.metadata.num_rows
            return [found[name].to_pylist() if name in self.names else absent for name in names]

    def records(self, fields: Collection[str] = ()) -> Iterator[Record]:
        """Yield the sound records by key, with the given ``fields`` and ``key``; all fields where none is given.

        Nested parts of equal content are one object in all of them, so nobody may change them. Damaged records are
        added to ``faults``.
        """
        wanted = {*fields, "key"} if fields else None
        parse, gatekeeper = _Parser(shared=True), Gate()
        with self._readable():
            for batch in self.file.iter_batches(BATCH, columns=self._columns(wanted), use_threads=False):
                for key, record in _records(batch, wanted, parse):
                    if key in self.faults:
                        continue
                    fault = record if isinstance(record, str) else gatekeeper.fault(record, key, whole=wanted is None)
                    if fault:
                        self._damaged(key, str(fault))
                    else:
                        yield record  # type: ignore[misc]

    def sound(self) -> bool:
        """Return whether every record of the table is sound."""
        self.index()
        return sum(1 for _ in self.records()) == self.file.metadata.num_rows

    def read(self, row: int) -> Record:
        """Return the whole record of a row; the caller may modify it.

        Raises:
            StoreError: it is damaged.
        """
        group, row = self._group(row)
        with self._readable():
            if group not in self.groups:
                self.groups[group] = self.file.read_row_group(group, use_threads=False)
                while len(self.groups) > KEPT_GROUPS:
                    self.groups.popitem(last=False)
            self.groups.move_to_end(group)
            ((key, record),) = _records(self.groups[group].slice(row, 1), None, _Parser(shared=False))
        fault = record if isinstance(record, str) else Gate().fault(record, key)
        if fault or isinstance(record, str):
            told = gate.visible(str(fault))
            raise StoreError(f"The record {key[:16]} in {self.path} is damaged ({told}); run its sweep again.")
        return record

    def _group(self, row: int) -> tuple[int, int]:
        group = 0
        while row >= (rows := self.file.metadata.row_group(group).num_rows):
            group, row = group + 1, row - rows
        return group, row

    def _columns(self, wanted: set[str] | None) -> list[str] | None:
        if wanted is None:
            return [name for name in self.names if name not in DERIVED]
        return [n for n in self.names if n in wanted or n == "layout" or n.partition(".")[0] in wanted & set(SPREAD)]

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            told = gate.visible((str(error).splitlines() or [""])[0])  # it may quote the file's own bytes
            raise StoreError(
                f"The table {self.path} cannot be read ({told}); take it back with `git checkout -- {self.path.name}` "
                "in its folder, or delete it and pack its records again."
            ) from error


class _Parser:
    """Parser of JSON text that parses equal texts once where the results may be ``shared``."""

    def __init__(self, shared: bool) -> None:
        self.shared = shared
        self.known: dict[str, Any] = {}
        self.texts: dict[str, str] = {}

    def __call__(self, text: str) -> Any:
        if not self.shared:
            return gate.parse(text)
        found = self.known.get(text)
        if found is None:
            found = self.known[text] = gate.parse(text)
        return found

    def text(self, text: str) -> str:
        """Return one object for equal texts."""
        return self.texts.setdefault(text, text)


def _records(
    batch: pa.RecordBatch | pa.Table, wanted: set[str] | None, parse: _Parser
) -> Iterator[tuple[str, Record | str]]:
    """Yield the key of each row with its record, or with the reason why there is none."""
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    texts = {field.name for field in batch.schema if pa.types.is_string(field.type)}
    for i, layout in enumerate(columns["layout"]):
        key = columns["key"][i]
        try:
            yield key, _record(columns, i, _parsed_layout(layout), wanted, texts, parse)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            yield key, f"its row cannot be read: {type(error).__name__} {error}"


def _record(
    columns: Mapping[str, list[Any]],
    i: int,
    layout: Mapping[str, Any],
    wanted: set[str] | None,
    texts: set[str],
    parse: _Parser,
) -> Record:
    record: Record = {}
    for field, kind in layout.items():
        if wanted is not None and field not in wanted:
            continue
        if isinstance(kind, str):
            record[field] = _value(kind, columns[field][i], field in texts, parse, once=field in ONCE)
        else:
            record[field] = {name: _value(of, columns[column][i], column in texts, parse) for name, of, column in kind}
    if wanted is not None and (missing := wanted & gate.NEEDED - record.keys()):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    return record


ONCE = {"key", "started", "data", "curves", "media"}
"""Fields that hardly ever hold the same in two records."""


def _value(kind: str, value: Any, is_text: bool, parse: _Parser, once: bool = False) -> Any:
    if kind == FLOAT and not is_text:
        return value
    if kind == NULL:
        return None
    if kind == TEXT:
        return value if once else parse.text(value)
    if is_text:
        return gate.parse(value) if once else parse(value)
    return bool(value) if kind == TRUTH else int(value)


@cache
def _parsed_layout(text: str) -> dict[str, Any]:
    """Return the type of each field, or the name, type and column of each of its entries."""
    return {
        field: kind if isinstance(kind, str) else [(name, of, f"{field}.{name}") for name, of in kind.items()]
        for field, kind in gate.parse(text).items()
    }


# -- all tables of a store --------------------------------------------------------------------------------------------
class Tables:
    """Packed sweeps of a store at one moment; of a key in two tables the later table's row counts."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.tables: list[Table] = []
        self.unreadable: dict[Path, Fault] = {}
        self.places: dict[str, tuple[Table, int, str]] = {}
        self.repeated: dict[Table, set[str]] = {}
        for path in sorted(paths):
            try:
                table = Table(path)
                keys, statuses = table.index()
            except StoreError as error:
                self.unreadable[path] = Fault(str(path), str(error))
                continue
            self.tables.append(table)
            for key in self.places.keys() & set(keys):
                self.repeated.setdefault(self.places[key][0], set()).add(key)
            rows = zip([table] * len(keys), range(len(keys)), statuses, strict=True)
            self.places.update(zip(keys, rows, strict=True))
        self.places.pop("", None)
        self.keys = sorted(self.places)

    @property
    def faults(self) -> list[Fault]:
        """Damaged tables and records that were met so far."""
        return [*self.unreadable.values(), *(fault for table in self.tables for fault in table.faults.values())]

    def read(self, key: str) -> Record | None:
        place = self.places.get(key)
        return place[0].read(place[1]) if place else None

    def status(self, key: str) -> str | None:
        place = self.places.get(key)
        return place[2] if place else None

    def rows(self, columns: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Return the values of ``columns`` by key; None where a table has no such column."""
        found: dict[str, tuple[Any, ...]] = {}
        for table in self.tables:
            try:
                values = table.columns(("key", *columns))
            except StoreError as error:
                self.unreadable[table.path] = Fault(str(table.path), str(error))
                continue
            found.update(zip(values[0], zip(*values[1:], strict=True), strict=True))
            for key in table.faults:
                found.pop(key, None)
        return found

    def stamp(self, key: str) -> int:
        """Return when the table with ``key`` was written (nanoseconds since the epoch); 0 where none has it."""
        place = self.places.get(key)
        return place[0].stamp if place else 0

    def holding(self, key: str) -> list[Table]:
        """Return every table with a row of ``key``: two where packing was killed before it had rewritten the second."""
        first = self.places.get(key)
        return [table for table in self.tables if first and (table is first[0] or key in self.repeated.get(table, ()))]

    def beginning(self, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix``."""
        start = bisect_left(self.keys, prefix)
        return self.keys[start : bisect_left(self.keys, prefix + "\U0010ffff", lo=start)]

    def records(self, fields: Collection[str] = ()) -> Iterator[Record]:
        """Yield every record by key; see :meth:`Table.records`. The rest of a table that breaks off is left out."""
        last = None
        streams = (self._stream(table, fields) for table in reversed(self.tables))  # of equal keys the first is kept
        for record in heapq.merge(*streams, key=lambda record: record["key"]):
            if record["key"] != last:
                yield record
            last = record["key"]

    def _stream(self, table: Table, fields: Collection[str]) -> Iterator[Record]:
        try:
            yield from table.records(fields)
        except StoreError as error:
            self.unreadable[table.path] = Fault(str(table.path), str(error))


@dataclass
class _Opened:
    """Tables of a folder, with the state of the folder and of the files when they were opened."""

    folder: int
    files: list[tuple[str, int, int, int]]
    tables: Tables


_opened: dict[Path, _Opened] = {}


def tables(folder: Path) -> Tables:
    """Return the current tables in ``folder``, opened once a process, and again when one of them has changed."""
    try:
        changed = folder.stat().st_mtime_ns
    except FileNotFoundError:
        return Tables([])
    known = _opened.get(folder)
    if known and known.folder == changed:
        return known.tables
    paths = [path for path in sorted(folder.glob("*.parquet")) if not path.name.startswith(".")]
    states = [(path.name, path.stat()) for path in paths]
    files = [(name, state.st_mtime_ns, state.st_size, state.st_ino) for name, state in states]
    if not known or known.files != files:
        known = _Opened(changed, files, Tables(paths))
    # A folder that changed a moment ago may change again within the same tick of the clock: look again next time.
    known.folder = changed if time.time_ns() - changed > RACY else -1
    _opened[folder] = known
    return known.tables
