"""Worker processes that do not outlive the sweep which started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import cache

LOOK_SECONDS = 0.5
PR_SET_PDEATHSIG = 1  # of prctl(2)


@cache
def end_with_parent() -> None:
    """End this process soon after its parent, where multiprocessing or Joblib started it; else do nothing.

    Joblib's workers would go on with their cell, and keep the sweep's pipes open, until they are idle for minutes.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with(parent.pid)


def end_with(parent: int) -> None:
    """End this process when the process ``parent``, which started it, ends; at once if it has ended already.

    Being ended at any moment is harmless: a record is written whole or not at all. Linux kills the process itself; a
    thread looks as well, for other systems, and for a parent that died before Linux was asked.
    """
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), name="end-with-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
