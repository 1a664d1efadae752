"""Calls that are spread over worker processes of this machine, each of which may die."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

from runners.sweep.child import NOTE, RAISED, READY, Child, ChildDied

Call = tuple[Callable[..., Any], tuple[Any, ...]]
STARTS = 5  # workers that may die in a row before they were ready


class Lost:
    """Stands in the place of what a call would have returned, had its worker lived."""


def call_all(calls: Sequence[Call], at_once: int) -> list[Any]:
    """Return what each of ``calls`` returned, in their order, or :class:`Lost`.

    There are never more workers than calls that wait for one. A worker that dies is replaced, and the calls of the
    others go on.

    Raises:
        ChildDied: workers die one after the other before they are ready for anything.
        Exception: what a call raised; the workers are then killed.
    """
    results: list[Any] = [Lost] * len(calls)
    waiting = deque(range(len(calls)))
    workers: dict[Any, tuple[Child, int | None]] = {}  # by its line: the worker and the call that it is at
    died_early = 0
    try:
        while waiting or workers:
            idle = sum(index is None for _, index in workers.values())
            for _ in range(min(at_once - len(workers), len(waiting) - idle)):
                worker = Child()
                workers[worker.line] = worker, None
            for line in wait(list(workers)):
                worker, index = workers[line]
                try:
                    message = worker.receive()
                    assert message is not None
                    kind, value = message
                    if kind == NOTE:
                        continue
                    if kind == RAISED:
                        raise value
                    died_early = 0
                    if kind != READY:
                        assert index is not None
                        results[index] = value
                    if not waiting:
                        del workers[line]
                        worker.end()
                        continue
                    index = waiting.popleft()
                    workers[line] = worker, index
                    worker.send(calls[index][0], *calls[index][1])
                except ChildDied:
                    del workers[line]
                    died_early += index is None
                    if died_early >= STARTS:
                        raise
    finally:
        for worker, _ in workers.values():
            worker.kill()
    return results
