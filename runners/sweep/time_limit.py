"""Cells that are stopped when their time is up: they are played in a child, which can be killed at any instruction."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmark.errors import ConfigError
from runners.sweep.child import NOTE, RAISED, RETURNED, Child, ChildDied, Note

if TYPE_CHECKING:
    from runners.config.compose import ComposedCell
    from runners.sweep.execute import Played

_own = threading.local()  # each thread keeps its child for the next cell: it has imported everything


def check(seconds: float | None) -> None:
    """Raise ConfigError unless ``seconds`` is a time limit, or None for no limit."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigError(f"time_limit must be a number of seconds above 0, or null for no limit; got {seconds!r}.")


def play_within(composed: ComposedCell, *, refuse: bool, until: float | None = None) -> Played:
    """Play the cell, for ``time_limit`` seconds at most, as :func:`runners.sweep.execute.execute` does.

    The clock runs from when everything is imported, and stands while the cell waits for an artifact that another
    process builds.

    Args:
        until: a time of :func:`time.monotonic` at which the cell is stopped in any case; None for none.

    Raises:
        ConfigError: the limit is no number of seconds above 0.
        GauntletError: see :func:`runners.sweep.execute.execute`.
    """
    from runners.sweep.execute import Played, unplayed

    limit = composed.options.time_limit
    check(limit)
    assert limit is not None
    clock, begun = _Clock(limit), time.monotonic()
    try:
        child = _child(composed, refuse)
        while True:
            message = child.receive(_sooner(clock.left(), until))
            if message is None:
                child.kill()
                status, reason = "timeout", f"stopped after time_limit={limit:g} s"
                break
            kind, value = message
            if kind == NOTE:
                clock.turn(running=value)
            elif kind == RAISED:
                raise value
            elif kind == RETURNED:
                return _released(child, value)
    except ChildDied as error:
        from runners.sweep.execute import LESS_MEMORY

        status = "failed"
        reason = f"its process {error}; if the system killed it for want of memory, {LESS_MEMORY}"
    _own.child = None
    return Played(unplayed(composed, status, reason, time.monotonic() - begun))


def end_child() -> None:
    """End the process that this thread keeps for its next cell, if there is one."""
    child: Child | None = getattr(_own, "child", None)
    _own.child = None
    if child is not None:
        child.kill()


def _sooner(left: float | None, until: float | None) -> float | None:
    """Return the seconds to wait: those that are left, or up to ``until`` if that is sooner."""
    if until is None:
        return left
    rest = max(0.0, until - time.monotonic())
    return rest if left is None else min(left, rest)


def _released(child: Child, played: Played) -> Played:
    """Return what the child played, and end the child where its GPU answers no more."""
    if not played.device_lost:
        return played
    child.kill()
    _own.child = None
    return replace(played, device_lost=False)


class _Clock:
    """Counts down ``seconds`` while it runs."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.since: float | None = None

    def turn(self, *, running: bool) -> None:
        left, now = self.left(), time.monotonic()
        self.seconds = self.seconds if left is None else left
        self.since = now if running else None

    def left(self) -> float | None:
        """Return the seconds that are left; None while the clock stands."""
        return None if self.since is None else max(0.0, self.seconds - (time.monotonic() - self.since))


def _child(composed: ComposedCell, refuse: bool) -> Child:
    """Return a child that is at the cell."""
    child: Child | None = getattr(_own, "child", None)
    for attempt in range(2):
        if child is None:
            child = Child()
        _own.child = child
        try:
            child.send(_play, composed, refuse)
            break
        except ChildDied:  # it was killed since its last cell
            child = None
            if attempt:
                raise
    assert child is not None
    return child


def _play(composed: ComposedCell, refuse: bool, note: Note) -> Played:
    """Play the cell in the child; ``note`` tells the parent whether the clock runs."""
    from runners.sweep.execute import import_all, play_here

    @contextmanager
    def waiting() -> Iterator[None]:
        note(False)
        try:
            yield
        finally:
            note(True)

    import_all()
    note(True)
    try:
        return play_here(composed, refuse=refuse, waiting=waiting)
    finally:
        note(False)
