"""Choice of the GPU that a process uses: with several of them each process takes a free one and keeps it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from runners.sweep.environment import resolve_device

_held: dict[str, FileLock] = {}  # the locks live as long as the process, which is what frees them


def assign(wanted: str) -> str:
    """Return ``cpu`` or ``cuda:N`` for ``wanted``, as :func:`runners.sweep.environment.resolve_device` does.

    ``auto`` and ``cuda`` mean the first GPU that no other process of this user has taken by this function, so that the
    workers of any launcher spread over the GPUs; when all are taken, workers share them evenly by process number.
    A GPU that was named (``cuda:1``) is used whoever has it.
    """
    device = resolve_device(wanted)
    if device == "cpu" or ":" in wanted:
        return device
    import torch

    count = torch.cuda.device_count()
    return device if count == 1 else f"cuda:{_take([_identity(index) for index in range(count)])}"


def _identity(index: int) -> str:
    """Return a name of a card that is the same in every process, whatever its CUDA_VISIBLE_DEVICES."""
    import torch

    return str(torch.cuda.get_device_properties(index).uuid)


def _take(cards: list[str], folder: Path | None = None) -> int:
    """Return the index of the card that this process has, or takes now."""
    folder = folder or Path(tempfile.gettempdir()) / f"gauntlet-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for index, card in enumerate(cards):
        if card in _held:
            return index
    for index, card in enumerate(cards):
        lock = FileLock(folder / f"{card}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        _held[card] = lock
        return index
    return os.getpid() % len(cards)
