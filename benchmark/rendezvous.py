"""Calls that take turns, and do as one batch what all of them come to.

Cells that differ in the seed alone spend most of their time in the same operations on tensors of the same shapes, of
which a GPU does several in the time of one. Each cell is played as it stands, by a thread of its own. One thread runs
at a time; one that comes to a joint operation waits for the others there. When none can go on, what they wait for is
done, operations of a kind as one batch, and they go on in turn. So nothing that plays a cell has to know of others.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from benchmark import clock
from benchmark.seeds import kept


class Joinable(Protocol):
    """Work of an operation that can be done for several at once."""

    def kind(self) -> Hashable: ...


Work = TypeVar("Work", bound=Joinable)
Result = TypeVar("Result")
Batch = Callable[[Sequence[Work]], Sequence[Result]]


def in_turns(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return what each call returns, in their order; those of their operations that can be are done together.

    Raises:
        BaseException: the first that a call raised, when all have ended.
    """
    company, outcomes = _Company(len(calls)), [_Outcome() for _ in calls]
    threads = [
        threading.Thread(target=company.attend, args=(number, call, outcome), daemon=True)
        for number, (call, outcome) in enumerate(zip(calls, outcomes, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcome.get() for outcome in outcomes]


def meet(work: Work, alone: Callable[[Work], Result], together: Batch[Work, Result]) -> Result:
    """Return ``alone(work)``, or what ``together`` makes of it where other threads come with work of its kind.

    Args:
        work: its ``kind()`` is equal for works that can be done together, and None for one that never can.
        together: takes works and returns their results, equal to ``alone``'s but for rounding. Where it raises, each
            work is done alone, so it must have changed nothing then.
    """
    member = _here.member
    if member is None or (kind := work.kind()) is None:
        return alone(work)
    result = member.meet(_Request((together, kind), work, together))
    return alone(work) if result is None else result


@contextmanager
def aside() -> Iterator[None]:
    """Let other threads run meanwhile: this one waits for something outside."""
    with _here.member.away() if _here.member else nullcontext():
        yield


class _Here(threading.local):
    """Of this thread: the member that it is, if any."""

    member: _Member | None = None


_here = _Here()


@dataclass
class _Outcome:
    """Value that a call gave, or its error."""

    value: Any = None
    error: BaseException | None = None

    def get(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


@dataclass
class _Request:
    """Work that waits.

    Attributes:
        result: of a batch, None where it has to be done alone; seconds: its share of the batch's.
    """

    kind: Hashable
    work: Any
    together: Batch[Any, Any]
    result: Any = None
    seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)


class _Company:
    """Threads of which the one with the baton runs.

    Attributes:
        able: how many could go on if they had the baton.
        waiting: by the number of the member, what it waits for.
    """

    def __init__(self, count: int) -> None:
        self.baton = threading.Lock()
        self.able = count
        self.waiting: dict[int, _Request] = {}

    def attend(self, number: int, call: Callable[[], Any], outcome: _Outcome) -> None:
        """Make ``call`` as member ``number``."""
        _here.member = _Member(self, number)
        with self.baton:
            with kept():  # others draw from the same global generators
                try:
                    outcome.value = call()
                except BaseException as error:
                    outcome.error = error
            self.leave()

    def leave(self) -> None:
        """Say that the member with the baton cannot go on; the last one who says so does what all wait for."""
        self.able -= 1
        if self.able or not self.waiting:
            return
        kinds: dict[Hashable, list[_Request]] = {}
        for number in sorted(self.waiting):  # a batch is the same whoever came first
            request = self.waiting[number]
            kinds.setdefault(request.kind, []).append(request)
        self.able, self.waiting = len(self.waiting), {}
        for requests in kinds.values():
            if len(requests) > 1:
                _serve(requests)
            for request in requests:
                request.done.set()


def _serve(requests: Sequence[_Request]) -> None:
    """Do the work of the requests as one batch, if that can be done."""
    began = time.perf_counter()
    try:
        results = requests[0].together([request.work for request in requests])
    except Exception as error:
        with suppress(Warning):  # where warnings are errors, others would wait for ever
            warnings.warn(f"The work of {len(requests)} cells is done one by one: {error!r}", stacklevel=1)
        return
    share = (time.perf_counter() - began) / len(requests)
    for request, result in zip(requests, results, strict=True):
        request.result, request.seconds = result, share


@dataclass(frozen=True)
class _Member:
    company: _Company
    number: int

    def meet(self, request: _Request) -> Any:
        """Return what a batch made of the request, None where there was none."""
        self.company.waiting[self.number] = request
        with self.away(back=request.done):
            pass
        clock.leave_out(-request.seconds)
        return request.result

    @contextmanager
    def away(self, back: threading.Event | None = None) -> Iterator[None]:
        """Hand the baton on, and take it again at the end; ``back``: who sets it counts this member as able."""
        began = time.perf_counter()
        with kept():  # others draw from the same global generators
            self.company.leave()
            self.company.baton.release()
            try:
                yield
                if back is not None:
                    back.wait()
            finally:
                self.company.baton.acquire()
                if back is None:
                    self.company.able += 1
        clock.leave_out(time.perf_counter() - began)
