"""Accepted numbers (``results/baseline``): has a number drifted beyond what seeds explain?

An entry holds mean, spread over seeds and count of one metric of one cell group. A new mean is *inside* when it is
nearer than three standard errors of the difference, or than the metric's floor where that is wider.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from benchmark.errors import GauntletError
from runners.table import load

GROUP = ["scale", "dataset_label", "model_label", "setting_label", "threat_label", "defense_label"]
FLOORS = {"psnr_db": 1.0}
FLOOR = 0.02
"""Differences that are never called a drift: thread scheduling and library versions alone can cause them."""
STANDARD_ERRORS = 3.0


def numbers(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, float]]:
    """(group..., metric) -> mean, sd and n over the seeds of the finished cells: headline risk and utility."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    finished = table[table.status == "ok"]
    for labels, cells in finished.groupby(GROUP):
        group = tuple(str(label) for label in labels)
        first = cells.iloc[0]
        for metric, values in (
            (f"risk.{first.headline}", cells.headline_value),
            (f"utility.{first.utility_metric}", cells[f"utility.{first.utility_metric}"]),
        ):
            values = values.dropna()
            if len(values):
                spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                found[(*group, metric)] = {"mean": float(values.mean()), "sd": spread, "n": float(len(values))}
    return found


def verdict(metric: str, accepted: dict[str, float], measured: dict[str, float] | None) -> str:
    """``inside``, ``outside`` or ``not run``."""
    if measured is None:
        return "not run"
    error = math.sqrt(accepted["sd"] ** 2 / accepted["n"] + measured["sd"] ** 2 / measured["n"])
    width = max(STANDARD_ERRORS * error, FLOORS.get(metric.split(".")[-1], FLOOR))
    return "inside" if abs(measured["mean"] - accepted["mean"]) <= width else "outside"


def read(path: Path) -> dict[tuple[str, ...], dict[str, float]]:
    """The accepted numbers in ``path``.

    Raises:
        GauntletError: there are none.
    """
    if not path.is_file():
        raise GauntletError(
            f"There are no accepted numbers at {path}; write them with --update-baseline and review them."
        )
    return {tuple(entry["cell"]): entry["number"] for entry in json.loads(path.read_text())}


def compare(console: Console, store: Path, baseline: Path, *, scale: str | None) -> int:
    """Print a line for each accepted number that drifted, and the counts; gives how many are outside."""
    measured = numbers(load(store))
    counts = {"inside": 0, "outside": 0, "not run": 0}
    for cell, accepted in read(baseline).items():
        if scale and cell[0] != scale:
            continue
        state = verdict(cell[-1], accepted, measured.get(cell))
        counts[state] += 1
        if state == "outside":
            now = measured[cell]["mean"]
            console.print(f"outside: {' / '.join(cell)}: {now:.4g}, accepted {accepted['mean']:.4g}", highlight=False)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    console.print(f"Accepted numbers: {told}.", highlight=False)
    return counts["outside"]


def update(store: Path, baseline: Path, *, scale: str | None) -> int:
    """Accept the store's numbers: write them to ``baseline``; gives how many."""
    measured = numbers(load(store))
    entries: list[dict[str, Any]] = [
        {"cell": list(cell), "number": measured[cell]} for cell in sorted(measured) if scale in (None, cell[0])
    ]
    baseline.parent.mkdir(parents=True, exist_ok=True)
    baseline.write_text(json.dumps(entries, indent=1) + "\n")
    return len(entries)
