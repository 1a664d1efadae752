"""Timing of a hot path: interleaved in one process, one intra-op thread, medians of CPU seconds.

On a GPU, whose work no CPU time tells, they are seconds of the clock, read when the work is done. Seconds of the clock
are told beside those of the CPU everywhere.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError
from runners.sweep.environment import device_name, resolve_device
from runners.sweep.process import give_back_memory, prepare_torch

REPEATS = 5
AT_LEAST_SECONDS = 1.0
"""Short paths are repeated until their fast form took so long in all, at most ``MOST_REPEATS`` times."""
MOST_REPEATS = 50


def largest_relative(ours: Any, theirs: Any) -> float:
    """Return the largest difference of two tensors, divided by the largest entry of the second."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@dataclass(frozen=True)
class Peer:
    """Another library's way to do the same work.

    Attributes:
        package: what is imported; where it isn't installed, the path is measured without it.
        prepare: imports the package and gives what is timed.
        tolerance: on ``difference(fast's result, the peer's)``.
    """

    package: str
    prepare: Callable[[], Callable[[], Any]]
    tolerance: float
    difference: Callable[[Any, Any], float] = largest_relative


@dataclass(frozen=True)
class HotPath:
    """A fast and a plain way to do the same work; ``difference`` says how far their results are apart.

    Attributes:
        plain: the reference, written as in the formula; None where only a peer does the same work.
        tolerance: on ``difference(fast's result, plain's)``; without a plain form, nothing.
        work: what one call does, in a few words.
        peer: another library that does the same work.
        repeats: of each form, at least; a whole job takes seconds and has fewer.

    Raises:
        ValueError: there is neither a plain form nor a peer.
    """

    fast: Callable[[], Any]
    plain: Callable[[], Any] | None
    tolerance: float
    work: str
    difference: Callable[[Any, Any], float] = largest_relative
    peer: Peer | None = None
    repeats: int = REPEATS

    def __post_init__(self) -> None:
        if self.plain is None and self.peer is None:
            raise ValueError("a path needs a plain form or a peer: there is nothing to hold it against.")


def measure(
    name: str, path: HotPath, device: str = "cpu", repeats: int | None = None, at_least: float = AT_LEAST_SECONDS
) -> dict[str, Any]:
    """Time one path, built for ``device``; ``plain_over_fast`` above 1 means that the fast form is faster.

    Args:
        repeats: of each form, at least, by default the path's own; more where those of the fast form take less than
            ``at_least`` seconds.

    Raises:
        AssertionError: the results disagree, so their times mean nothing.
    """
    contenders = {"fast": path.fast} | ({} if path.plain is None else {"plain": path.plain})
    result: dict[str, Any] = {"path": name, "work": path.work, "peer": None}
    if path.peer is not None:
        result["peer"] = path.peer.package
        result["peer_installed"] = importlib.util.find_spec(path.peer.package) is not None
        if result["peer_installed"]:
            contenders["peer"] = path.peer.prepare()

    clock = time.process_time if device == "cpu" else _clock()
    ours, seconds, _ = _timed(path.fast, clock)
    if path.plain is not None:
        result["difference"] = _agreed(name, "plain", path.difference(ours, path.plain()), path.tolerance)
    if "peer" in contenders and path.peer is not None:
        difference = path.peer.difference(ours, contenders["peer"]())
        result["peer_difference"] = _agreed(name, path.peer.package, difference, path.peer.tolerance)

    wanted = path.repeats if repeats is None else repeats
    repeats = min(MOST_REPEATS, max(wanted, math.ceil(at_least / max(seconds, 1e-9))))
    spent: dict[str, list[float]] = {kind: [] for kind in contenders}
    waited: dict[str, list[float]] = {kind: [] for kind in contenders}
    for _ in range(repeats):
        for kind, run in contenders.items():
            _, seconds, wall = _timed(run, clock)
            spent[kind].append(seconds)
            waited[kind].append(wall)
    medians = {kind: statistics.median(taken) for kind, taken in spent.items()}
    result["repeats"] = repeats
    for kind, median in medians.items():
        result[f"{kind}_seconds"], result[f"{kind}_seconds_least"] = median, min(spent[kind])
        result[f"{kind}_wall_seconds"] = statistics.median(waited[kind])
    for kind in medians.keys() - {"fast"}:
        result[f"{kind}_over_fast"] = medians[kind] / medians["fast"]
    return result


def _timed(run: Callable[[], Any], clock: Callable[[], float]) -> tuple[Any, float, float]:
    """Return the result of ``run``, its seconds by ``clock`` and those of the wall's clock."""
    begun, started = time.perf_counter(), clock()
    result = run()
    return result, clock() - started, time.perf_counter() - begun


def _clock() -> Callable[[], float]:
    from benchmark.clock import now  # imports torch, which listing the paths need not

    return now


def _agreed(name: str, other: str, difference: float, tolerance: float) -> float:
    if not difference <= tolerance:
        raise AssertionError(f"{name}: fast and {other} differ by {difference:.2g}, more than {tolerance:.2g}")
    return difference


def run_all(
    names: Sequence[str], paths: Mapping[str, Callable[..., HotPath]], store: Path, device: str = "cpu"
) -> None:
    """Measure the named ``paths`` (all when none is named), print a line each and write ``<store>/bench.json``.

    The file is complete after each path, so that an interrupted run leaves what it has measured.

    Raises:
        ConfigError: there is no such path or device.
        AssertionError: results disagree.
    """
    import torch

    for name in names:
        if name not in paths:
            raise ConfigError(f"There is no hot path {name!r}; the paths are {', '.join(paths)}.")

    device = resolve_device(device)
    prepare_torch(threads=1, device=device)
    machine = {"processor": processor(), "cores": os.cpu_count(), "torch": torch.__version__, "threads": 1}
    machine["device"] = device_name(device)
    store.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for name in names or paths:
        give_back_memory()  # so that no path profits from large memory blocks that the one before it freed
        build = paths[name] if device == "cpu" else partial(paths[name], device)
        results.append(measure(name, build(), device))
        print(line(results[-1]), flush=True)
        (store / "bench.json").write_text(json.dumps({"machine": machine, "paths": results}, indent=1) + "\n")


def line(result: Mapping[str, Any]) -> str:
    """Return the figures of one path as a line of text."""
    against = [f"plain {result['plain_over_fast']:5.2f}x"] if "plain_over_fast" in result else []
    if result["peer"]:
        times = f"{result['peer_over_fast']:5.2f}x" if result["peer_installed"] else "not installed"
        against.append(f"{result['peer']} {times}")
    spent, waited = result["fast_seconds"] * 1e3, result["fast_wall_seconds"] * 1e3
    took = f"fast {spent:8.2f} ms, {waited:8.2f} by the clock"
    return f"{result['path']:>24}  {'  '.join(against):34}  {took}; {result['work']}"


def processor() -> str:
    """Return the processor's name, as far as the system knows it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for row in listing.read_text().splitlines():
            if row.startswith("model name"):
                return row.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
