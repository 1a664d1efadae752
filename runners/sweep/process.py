"""Preparation of a process before it calculates."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from functools import cache
from typing import Any, NoReturn

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
MEBIBYTE = 1 << 20


def prepare_torch(threads: int, device: str) -> None:
    """Make arithmetic the same on every run, and keep freed memory.

    The thread count is fixed; on a GPU kernels are deterministic and compute in the precision of their inputs.
    """
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    import torch

    keep_freed_memory()
    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Convolutions would by default round their inputs to 10 bits (TF32), which costs an inversion decibels.
        # A cell of precision=tf32 allows it while it is played.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def keep_freed_memory() -> None:
    """Let the C library keep what it frees, up to a gibibyte, for the next tensor of the size.

    By default glibc returns every large block to the system, which clears it again for the next iteration's tensor.
    That takes a tenth to a fifth of the time of small networks. Other C libraries have no such switch.
    """
    switch = _of_the_c_library("mallopt")
    if switch is not None:
        for option, size in ((TRIM_THRESHOLD, 1024), (TOP_PAD, 64), (MMAP_THRESHOLD, 32)):
            switch(option, size * MEBIBYTE)


@cache
def leave_out_of_collection() -> None:
    """Exclude all objects loaded so far from garbage collection; once in a process, after its first cell.

    The million objects of torch and other modules are never garbage. Looking through them takes 0.2 s, and Joblib's
    workers do that every second.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # modules that count their objects at the end would miss some


@cache
def keep_plugins() -> None:
    """Let Hydra remember its plugins from now on; once in a process, in a sweep's first job.

    Launchers have it look for them before each job, which runs the modules of all plugins anew: 30 ms and more.
    """
    from hydra.core.plugins import Plugins

    known = vars(Plugins.instance())
    Plugins._initialize = lambda plugins: vars(plugins).update(known)  # type: ignore[method-assign, assignment]


def give_back_memory() -> None:
    """Release the memory that :func:`keep_freed_memory` made the C library keep, and stop keeping it."""
    gc.collect()
    trim = _of_the_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def end_process(why: str) -> NoReturn:
    """End this process, which can be of no more use, so that its launcher starts another one. Nothing is cleaned up."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


def _of_the_c_library(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
