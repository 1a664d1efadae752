"""A clock for costs: right where work runs asynchronously on an accelerator, and where several cells take turns."""

from __future__ import annotations

import sys
import threading
import time


class _Others(threading.local):
    """Of this thread: seconds that went by for others."""

    seconds = 0.0


_others = _Others()


def now() -> float:
    """Return seconds on a clock that only runs forwards, read when all work begun so far is done.

    A GPU computes after the call that asked for it has returned. Where nothing has run on a GPU, this is :func:`read`.
    """
    torch = sys.modules.get("torch")  # nothing runs on a GPU where it was not imported, which takes seconds
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return read()


def read() -> float:
    """Return the same clock's seconds as it stands, whatever a GPU is at."""
    return time.perf_counter() - _others.seconds


def leave_out(seconds: float) -> None:
    """Take ``seconds`` that went by for others off this thread's clock."""
    _others.seconds += seconds
