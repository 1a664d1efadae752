"""A clock for costs, right where work runs asynchronously on an accelerator."""

from __future__ import annotations

import time

import torch


def now() -> float:
    """Return seconds on a clock that only runs forwards, read when all work begun so far is done.

    A GPU computes after the call that asked for it has returned. Where nothing has run on a GPU, this only reads the
    clock.
    """
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
