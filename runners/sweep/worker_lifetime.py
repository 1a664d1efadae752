"""Worker processes that do not outlive the sweep which started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from functools import cache

LOOK_SECONDS = 0.5


@cache
def end_with_parent() -> None:
    """End this process soon after its parent, where multiprocessing or Joblib started it; else do nothing.

    Joblib's workers would go on with their cell, and keep the sweep's pipes open, until they are idle for minutes.
    Being ended at any moment is harmless: a record is written whole or not at all.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        threading.Thread(target=_watch, args=(parent.pid,), name="end-with-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
