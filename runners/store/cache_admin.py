"""Administration of the artifact cache: listing and pruning of its entries."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from runners.config.catalogue import target
from runners.store.cache import artifact_name, code_of
from runners.store.gate import is_inside
from runners.store.records import Store, lock_path

DAY = 86400.0
DAMAGED = "(damaged)"
NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
ABANDONED = re.compile(r"\.[0-9a-f]{16}-\w+")
"""Temporary names of artifacts (:func:`runners.store.records.temporary_beside`)."""


@dataclass(frozen=True)
class Entry:
    """An artifact. ``used``: when it was last made or found, in seconds since the epoch."""

    path: Path
    artifact: str
    parts: tuple[str, ...]
    device: str
    size: int
    used: float


def entries(root: Path) -> Iterator[Entry]:
    """Yield the artifacts in ``<root>/cache``, sorted by path; links and what lies behind them are passed over."""
    for path in _own(root, NAME):
        try:
            state = os.lstat(path)
            with safe_open(path, framework="numpy") as file:
                told = file.metadata() or {}
            parts = json.loads(told.get("parts", "[]"))
            artifact, device = str(told["artifact"]), str(told["device"])
            if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
                raise ValueError
        except FileNotFoundError:  # pruned by another process meanwhile
            continue
        except (SafetensorError, OSError, ValueError, KeyError, RecursionError):
            parts, artifact, device = [], DAMAGED, ""
        yield Entry(path, artifact, tuple(parts), device, state.st_size, state.st_mtime)


def _own(root: Path, name: re.Pattern[str]) -> list[Path]:
    """Return the regular files of a certain ``name`` in ``<root>/cache/??`` that are reached through no link."""
    return [
        path
        for path in sorted(root.glob("cache/??/*"))
        if name.fullmatch(path.name) and is_inside(root, path) and path.is_file()
    ]


def prune(store: Store, days: float | None) -> tuple[list[Entry], list[Entry]]:
    """Remove entries, but none that is being built or read at this moment; return the removed and the left ones.

    Args:
        days: remove what was not used for longer; None removes what no record of the store was made from, e.g.
            because its record is gone or a component has changed.
    """
    present = list(entries(store.root))
    if days is None:
        wanted = _wanted(store, {(entry.artifact, entry.parts, entry.device) for entry in present})
        doomed = [entry for entry in present if entry.path.stem not in wanted]
    else:
        doomed = [entry for entry in present if entry.used < time.time() - days * DAY]
    removed = [entry for entry in doomed if _remove(store.root, entry)]
    for abandoned in _own(store.root, ABANDONED):  # by a writer that was killed
        if abandoned.stat().st_mtime < time.time() - DAY:
            abandoned.unlink(missing_ok=True)
    return removed, [entry for entry in present if entry not in removed]


def _wanted(store: Store, kinds: set[tuple[str, tuple[str, ...], str]]) -> set[str]:
    """Return the names of the artifacts of these kinds that the cells of the store's records ask for."""
    return {
        artifact_name(
            record["config"], artifact, parts, device, record["data"], code_of(record["config"], parts, target)
        )
        for record in store.all("config", "data")
        for artifact, parts, device in kinds
        if artifact != DAMAGED and all(part in record["config"] for part in parts)
    }


def _remove(root: Path, entry: Entry) -> bool:
    try:
        with FileLock(lock_path(root, entry.path.stem), timeout=0):
            entry.path.unlink(missing_ok=True)
            return True
    except Timeout:
        return False
