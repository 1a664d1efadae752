"""Time and memory of reading commands on large stores: ``python -m tests.runners.load 10000 100000``.

Makes a packed store of each size in a scratch folder, from the published records with other seeds and numbers that
differ a little, and prints time and peak memory of each command.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runners.config.identity import digest
from runners.store import columns, packed
from runners.store.records import Store

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "table": ("table",),
    "table --query": ("table", "--query", "threat == 'leakage_dlg' and seed == 1"),
    "plan": ("plan", "sweep=check"),
    "check": ("check",),
    "leaderboard": ("leaderboard",),
}


def fill(folder: Path, count: int, templates: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``count`` packed records made from ``templates``, and return the store."""
    by_sweep: dict[str | None, list[tuple[str, int, int]]] = defaultdict(list)
    for i in range(count):
        turn, place = divmod(i, len(templates))
        key = digest(_turned(templates[place], turn))
        by_sweep[templates[place]["sweep"]].append((key, place, turn))
    for sweep, cells in by_sweep.items():
        cells.sort()

        def records(cells: list[tuple[str, int, int]] = cells) -> Iterator[dict[str, Any]]:
            return (_varied(templates[place], key, turn) for key, place, turn in cells)

        packed.write(Store(folder).table(sweep), records)
    return folder


def _turned(template: Mapping[str, Any], turn: int) -> dict[str, Any]:
    """The config of ``template`` with another seed."""
    return {**template["config"], "seed": template["seed"] + 100 * turn}


def _varied(template: Mapping[str, Any], key: str, turn: int) -> dict[str, Any]:
    noise, config = random.Random(key), _turned(template, turn)
    made = {**template, "key": key, "seed": config["seed"], "config": config, "media": {}}
    for section in columns.SECTIONS if turn else ():
        made[section] = {
            name: value * (1 - 1e-3 * noise.random()) if isinstance(value, float) else value
            for name, value in template[section].items()
        }
    return made


def measure(words: Sequence[str], store: Path) -> tuple[float, float, float, int]:
    """Return wall and processor seconds, peak megabytes and exit code of ``gauntlet`` with ``words`` on ``store``."""
    place = f"store={store}" if words[0] == "plan" else f"--store={store}"
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "runners.cli.main", *words, place], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall, worked = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    return wall, worked, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main(sizes: Sequence[int]) -> None:
    templates = list(Store(ROOT / "results").all())
    with tempfile.TemporaryDirectory(prefix="gauntlet-load-") as scratch:
        for size in sizes:
            store = fill(Path(scratch) / str(size), size, templates[: min(sizes)])
            held = sum(path.stat().st_size for path in store.rglob("*.parquet")) / 1e6
            print(f"{size} records, {held:.1f} MB", flush=True)
            for name, words in COMMANDS.items():
                wall, worked, megabytes, code = measure(words, store)
                print(
                    f"  {name:14} {wall:6.1f} s ({worked:.1f} s of a processor) {megabytes:6.0f} MB  exit {code}",
                    flush=True,
                )


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [10_000, 100_000])
