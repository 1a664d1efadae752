"""Child of a session: plays the cells of a queue that fit the time left, and skips those that have a record."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module

from runners.config.compose import cell_of, register
from runners.run import job
from runners.store.records import Store

FEWEST = 3
"""Cells after which the time that they took tells how this machine compares with the one of the cost model."""


def main() -> None:
    """Play ``queue`` until ``seconds`` are over; the parent ends a cell that takes longer."""
    parser = argparse.ArgumentParser(prog="python -m runners.device.player")
    parser.add_argument("queue", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("part", type=int, help="of parts, counted from 0")
    parser.add_argument("parts", type=int)
    parser.add_argument("overrides", nargs="*", help="of every cell: store, device, data.root")
    given = parser.parse_args()
    play(json.loads(given.queue.read_text())[given.part :: given.parts], given.seconds, given.overrides)


def play(queue: list[dict[str, Any]], seconds: float, overrides: list[str]) -> None:
    """Play the cells in their order, but for those that would not end in time."""
    end = time.monotonic() + seconds
    register()
    took: list[float] = []
    with initialize_config_module("conf", version_base="1.3"):
        for planned in queue:
            pace = statistics.median(took) if len(took) >= FEWEST else 1.0
            if time.monotonic() + pace * planned["seconds"] > end:
                continue
            config = compose("sweeps", [*planned["overrides"], *overrides], return_hydra_config=True)
            cell = cell_of(config, config.hydra.runtime.choices)
            if Store(cell.options.store).finished(cell.key):
                continue
            started = time.monotonic()
            answer = job(cell)
            taken = time.monotonic() - started
            took.append(taken / planned["seconds"])
            print(f"{answer['status']:10} {taken:7.1f} s (expected {planned['seconds']:.0f})  {cell.label}", flush=True)


if __name__ == "__main__":
    main()
