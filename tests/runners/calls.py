"""Calls for worker processes, in a module that does not import torch: a worker that takes one starts in no time."""

from __future__ import annotations

import os

from benchmark.errors import ConfigError
from runners.sweep.child import Note


def double(number: int, note: Note) -> int:
    if number < 0:
        os._exit(9)
    if number == 13:
        raise ConfigError("thirteen")
    return 2 * number
