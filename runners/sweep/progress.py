"""Progress of a sweep, read from the store, so that it works for every launcher and every machine the cells run on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runners.store.records import FINISHED, Store

POLL_SECONDS = 0.5
SAY_SECONDS = 15.0  # between lines on one cell; most are done sooner
QUIET_SECONDS = 10.0  # between lines where there is no terminal


class Tally:
    """Counter of the records of ``keys`` that appear, or are replaced, after construction.

    Args:
        begun: when the sweep was asked for, in seconds of ``time.time()``.
    """

    def __init__(self, store: Store, keys: Sequence[str], begun: float) -> None:
        self.store, self.begun = store, begun
        self.total = len(keys)
        self.waiting = {key: store.stamp(key) for key in keys}
        self.failed = 0
        self.started = time.monotonic()
        self.first: str | None = None  # when the first of these records was begun

    @property
    def done(self) -> int:
        return self.total - len(self.waiting)

    def look(self) -> None:
        """Read what is new."""
        for key in [key for key, stamp in self.waiting.items() if self.store.stamp(key) != stamp]:
            del self.waiting[key]
            if record := self.store.read(key):
                self.failed += record["status"] not in FINISHED
                self.first = min(filter(None, (self.first, record["started"])))

    def text(self) -> str:
        """Return text such as ``3 failed, about 2 min left``."""
        parts = [f"{self.failed} failed"] if self.failed else []
        if self.done and self.waiting:
            rate = (time.monotonic() - self.started) / self.done
            parts.append(f"about {duration(rate * len(self.waiting))} left")
        return ", ".join(parts)

    def summary(self) -> str:
        """Return a sentence on what was done, and on how long the sweep took to come to its first cell."""
        took = f"{self.done} of {self.total} cells done in {duration(time.monotonic() - self.started)}"
        if self.first is None:
            return f"{took}."
        waited = max(0.0, datetime.fromisoformat(self.first).timestamp() - self.begun)
        return f"{took}; the first began after {duration(waited)}."


class Counted(Protocol):
    """Something that is ``done`` in part: a :class:`Tally` of cells, or the time of an audit."""

    total: int

    @property
    def done(self) -> int: ...

    def look(self) -> None: ...

    def text(self) -> str: ...


@contextmanager
def watch(tally: Counted, console: Console, unit: str = "cells") -> Iterator[None]:
    """Show the tally while the block runs: a bar on a terminal, else a line every ten seconds."""
    stop = threading.Event()
    show = _bar if console.is_terminal else _lines
    watcher = threading.Thread(target=show, args=(tally, console, stop, unit), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


@contextmanager
def saying_so(label: str) -> Iterator[None]:
    """Print to stderr what is played for how long, every :data:`SAY_SECONDS`, until the block ends."""
    stop, started = threading.Event(), time.monotonic()

    def say() -> None:
        while not stop.wait(SAY_SECONDS):
            print(f"{label}: playing for {duration(time.monotonic() - started)}", file=sys.stderr, flush=True)

    sayer = threading.Thread(target=say, daemon=True)
    sayer.start()
    try:
        yield
    finally:
        stop.set()
        sayer.join()


def _bar(tally: Counted, console: Console, stop: threading.Event, unit: str) -> None:
    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=tally.total)
        last = False
        while not last:
            last = stop.wait(POLL_SECONDS)
            tally.look()
            progress.update(bar, completed=tally.done, description=tally.text())


def _lines(tally: Counted, console: Console, stop: threading.Event, unit: str) -> None:
    while not stop.wait(QUIET_SECONDS):
        tally.look()
        console.print(f"{tally.done}/{tally.total} {unit}{', ' if tally.text() else ''}{tally.text()}", highlight=False)
    tally.look()


def duration(seconds: float) -> str:
    """Return a duration as text: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
