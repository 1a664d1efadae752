"""Facts of a record about the machine and the code that ran on it."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError
from benchmark.libraries import Library
from runners import __version__
from runners.config.identity import version
from runners.config.syntax import source_digest

HERE = Path(__file__).resolve().parents[2]
CODE = ("benchmark", "runners", "conf", "hydra_plugins")


def resolve_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda:N`` for ``wanted`` (``auto``, ``cpu``, ``cuda``, ``cuda:N``).

    Raises:
        ConfigError: it is none of these, or this machine has no such GPU.
    """
    import torch

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {wanted!r}.")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return "cpu"
    index = int(wanted.partition(":")[2] or 0)
    if index >= gpus:
        have = f"{gpus} GPU{'s' if gpus != 1 else ''}" if gpus else "no GPU that torch can use"
        raise ConfigError(f"device={wanted}, but this machine has {have}; use device=cpu or device=auto.")
    return f"cuda:{index}"


def device_name(device: str) -> str:
    """Return ``cpu``, or the model of the GPU."""
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def versions(targets: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions of everything that a number may depend on.

    Args:
        targets: of the cell; see :meth:`runners.config.compose.ComposedCell.targets`.
    """
    import torch

    return {
        "suite": __version__,
        **git_state(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **libraries(targets.values()),
        "components": {label: {"version": version(t), "digest": source_digest(t)} for label, t in targets.items()},
    }


def libraries(targets: Iterable[str]) -> dict[str, str | None]:
    """Return the releases of the libraries that components adapt, by the name under which each is published."""
    places = (target.rpartition(".") for target in targets)
    kinds = [getattr(sys.modules.get(module), name, None) for module, _, name in places]  # what played is loaded
    found = [getattr(kind, "library", None) for kind in kinds]
    adapted = [library for library in found if isinstance(library, Library)]
    return {library.distribution: library.version() for library in adapted}


@cache
def git_state() -> dict[str, Any]:
    """Return the commit of the suite's code and whether the code differs from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        words = ["git", "-C", str(HERE), *arguments]  # the user's own git, wherever it is
        run = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - no shell
        return run.stdout.strip()

    try:
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": bool(git("status", "--porcelain", "--", *CODE))}
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}


class PeakMemory:
    """Peak memory since construction, in MB: of the GPU when ``device`` is one, else resident memory (Linux only)."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)
            return
        with suppress(OSError):  # 5 resets the high-water mark, so that a cell is not charged for the one before it
            Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> float | None:
        if self.device.startswith("cuda"):
            import torch

            return round(torch.cuda.max_memory_allocated(self.device) / 1e6, 1)
        status = Path("/proc/self/status")
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return round(int(found[1]) * 1024 / 1e6, 1) if found else None


def free_memory_mb() -> float | None:
    """Return the memory that new processes may take without swapping, in MB; None where the system does not tell."""
    told = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", told.read_text()) if told.exists() else None
    return round(int(found[1]) * 1024 / 1e6, 1) if found else None
