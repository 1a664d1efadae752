"""Calls that are spread over worker processes of this machine, each of which may die."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from multiprocessing.connection import wait
from typing import Any

from runners.sweep.child import NOTE, RAISED, READY, Child, ChildDied

Call = tuple[Callable[..., Any], tuple[Any, ...]]
STARTS = 5  # workers that may die in a row before they were ready


class Lost:
    """Stands in the place of what a call would have returned, had its worker lived."""


def call_all(
    calls: Sequence[Call],
    at_once: int,
    kinds: Sequence[Hashable] | None = None,
    families: Sequence[Hashable] | None = None,
) -> list[Any]:
    """Return what each of ``calls`` returned, in their order, or :class:`Lost`.

    There are never more workers than calls that wait for one. A worker that dies is replaced, and the calls of the
    others go on. Where a call has one of ``kinds``, a worker stays with the kind that it is at, and then takes one that
    no other is at, if there is one of a family that no other is at: what calls of a kind or, to a lesser part, of a
    family share is not waited for, and a process can keep it.

    Raises:
        ChildDied: workers die one after the other before they are ready for anything.
        Exception: what a call raised; the workers are then killed.
    """
    results: list[Any] = [Lost] * len(calls)
    kinds = kinds or [None] * len(calls)
    waiting = _Waiting(kinds, families or kinds)
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
                    index = waiting.take(index, {at for _, at in workers.values() if at is not None})
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


class _Waiting:
    """Numbers of the calls that nobody has taken, by kind, in the order of the first call of each."""

    def __init__(self, kinds: Sequence[Hashable], families: Sequence[Hashable]) -> None:
        self.kinds, self.families, self.left = kinds, families, len(kinds)
        self.calls: dict[Hashable, deque[int]] = {}
        for index, kind in enumerate(kinds):
            self.calls.setdefault(kind, deque()).append(index)

    def __len__(self) -> int:
        return self.left

    def take(self, last: int | None, at_work: Collection[int]) -> int:
        """Return the call that a worker does after the call ``last``, while calls ``at_work`` are being done."""
        kind = self._next(last, at_work)
        index = self.calls[kind].popleft()
        self.left -= 1
        if not self.calls[kind]:
            del self.calls[kind]
        return index

    def _next(self, last: int | None, at_work: Collection[int]) -> Hashable:
        if last is not None and self.kinds[last] in self.calls:
            return self.kinds[last]
        for groups in self.families, self.kinds:
            taken = {groups[index] for index in at_work}
            for kind, calls in self.calls.items():
                if groups[calls[0]] not in taken:
                    return kind
        return max(self.calls, key=lambda kind: len(self.calls[kind]))  # help where most is left
