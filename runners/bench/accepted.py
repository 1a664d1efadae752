"""Accepted ratios of speed: a hot path that lost a fifth of its lead over the plain form is a regression.

Seconds differ between machines and hours; the ratio of two forms of the same work, timed in turn in one process,
hardly does. What lowers a ratio on a busy machine is chance, so a path that seems slow is measured again, longer each
time, and its best median counts; a real loss stays. Processors differ all the same, so each has ratios of its own, and
the lowest of all are asked of one that has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.errors import ConfigError
from runners.bench.measure import HotPath, measure, processor
from runners.sweep.process import give_back_memory, prepare_torch

ACCEPTED = Path("results/bench.json")
LEAST = 0.8
"""Share of its accepted ratio that a path must reach."""
ROUNDS = (3, 5, 9)
"""Repeats of each form, at least, in the first measurement and in those after a low one."""
BRIEF = 0.1
"""Seconds that the fast form's repeats take together, at least."""


def check(paths: Mapping[str, Callable[[], HotPath]], file: Path = ACCEPTED) -> int:
    """Measure the accepted paths anew, print a line each, and return 1 if one has lost a fifth of its ratio, else 0.

    Raises:
        ConfigError: nothing was accepted, or a path of another name.
    """
    known = expected(read(file), processor())
    prepare_torch(threads=1, device="cpu")
    slow = []
    for name, accepted in known.items():
        if name not in paths:
            raise ConfigError(f"{file} holds a hot path {name!r}, which there is not; accept the paths anew.")
        found = ratio(name, paths[name](), LEAST * accepted)
        lost = found < LEAST * accepted
        slow += [name] if lost else []
        print(
            f"{name:>24}  plain / ours {found:6.2f}, accepted {accepted:6.2f}{'  SLOWER' if lost else ''}", flush=True
        )
    if slow:
        print(
            f"{', '.join(slow)}: less than {LEAST} of the accepted ratio. Find what made it slow, or accept the ratios "
            f"of this processor ({processor()}) with `gauntlet bench --accept`."
        )
    return 1 if slow else 0


def accept(names: Sequence[str], paths: Mapping[str, Callable[[], HotPath]], file: Path = ACCEPTED) -> None:
    """Measure the paths ``names`` and write their ratios on this processor, for review: the lowest of two rounds each.

    Raises:
        ConfigError: there is no such path, or it has no plain form.
    """
    if strange := [name for name in names if name not in paths]:
        raise ConfigError(f"There is no hot path {strange[0]!r}; the paths are {', '.join(paths)}.")
    prepare_torch(threads=1, device="cpu")
    ratios = {name: min(_once(name, paths[name](), 5) for _ in range(2)) for name in names}
    rounded = {name: round(found, 2) for name, found in ratios.items()}
    written = (read(file) if file.is_file() else {}) | {processor(): rounded}
    file.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"{file} holds {', '.join(f'{name} {found:.2f}' for name, found in ratios.items())}.")


def read(file: Path) -> dict[str, dict[str, float]]:
    """Return the accepted ratios: processor -> path -> ratio."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"There are no accepted ratios in {file}; write them with `gauntlet bench --accept`."
        ) from None
    return dict(found)


def expected(known: Mapping[str, Mapping[str, float]], here: str) -> dict[str, float]:
    """Return the ratios that are asked of the processor ``here``: its own, or else the lowest of all."""
    if here in known:
        return dict(known[here])
    names = [name for ratios in known.values() for name in ratios]
    return {name: min(ratios[name] for ratios in known.values() if name in ratios) for name in names}


def ratio(name: str, path: HotPath, wanted: float) -> float:
    """Return the plain form's time over the fast one's; the best of several measurements where the first is low."""
    best = 0.0
    for repeats in ROUNDS:
        best = max(best, _once(name, path, repeats))
        if best >= wanted:
            break
    return best


def _once(name: str, path: HotPath, repeats: int) -> float:
    if path.plain is None:
        raise ConfigError(f"{name} has no plain form, so there is no ratio of it to accept or to check.")
    give_back_memory()
    return float(measure(name, replace(path, peer=None), repeats=repeats, at_least=BRIEF)["plain_over_fast"])
