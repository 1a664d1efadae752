"""Accepted numbers (``results/baseline``): has a number drifted beyond what its seeds explain?

An entry holds mean, spread over seeds and count of one metric of one cell group. A new mean is *inside* when it is
nearer to the accepted one than three standard errors of the difference, by the accepted spread, or than the metric's
floor where that is wider. The cell is named by a digest of its science without seed and versions, so that an entry goes
on defending a component whose ``VERSION`` was raised.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.errors import GauntletError
from runners.claims.claim_evaluation import INSIDE, NOT_RUN, OUTSIDE
from runners.config.identity import digest
from runners.store.parts import PerCell
from runners.store.staleness import moved_on
from runners.store.table import LABELS

FLOORS = {"psnr_db": 1.0}
FLOOR = 0.02
"""Differences that are never called a drift: thread scheduling and library versions alone can cause them."""
RELATIVE_FLOOR = 0.02
"""The same for metrics that are no shares, as a part of their value."""
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Number:
    """Mean, standard deviation over seeds (0 for a single one) and count of one metric of one cell group."""

    cell: str
    label: str
    metric: str
    mean: float
    sd: float
    n: int

    def width(self, n: int) -> float:
        """Return how far a new mean over ``n`` seeds may be from the accepted one."""
        error = self.sd * math.sqrt(1 / self.n + 1 / n)
        floor = FLOORS.get(self.metric.rpartition(".")[2], max(FLOOR, RELATIVE_FLOOR * abs(self.mean)))
        return max(STANDARD_ERRORS * error, floor)


@dataclass(frozen=True)
class Verdict:
    """An accepted number and the one measured now, None where nothing is; ``state`` as for claims."""

    accepted: Number
    measured: float | None
    state: str


def numbers(table: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> Iterator[Number]:
    """Return headline risk and utility of every cell group of ``table``, by scale and label.

    Args:
        table: from :func:`runners.store.table.load`.
        configs: key -> the record's ``config``.
    """
    groups: dict[str, list[Any]] = defaultdict(list)
    named, moved = PerCell(name_of), PerCell(moved_on)
    for row in table[table["status"] == "ok"].to_dict("records"):
        groups[named(configs[row["key"]])].append(row)
    for cell, members in groups.items():
        rows = [row for row in members if not moved(configs[row["key"]])] or members
        first = rows[0]
        label = " / ".join(str(first[name]) for name in ("scale", *LABELS))
        risk = {row["seed"]: row["headline_value"] for row in rows}
        utility = {row["seed"]: row.get(f"utility.{first['utility_metric']}") for row in rows}
        yield from _number(cell, label, f"risk.{first['headline']}", risk.values())
        yield from _number(cell, label, f"utility.{first['utility_metric']}", utility.values())


def _number(cell: str, label: str, metric: str, values: Iterable[Any]) -> Iterator[Number]:
    known = [float(value) for value in values if not pd.isna(value)]
    if known:
        sd = statistics.stdev(known) if len(known) > 1 else 0.0
        yield Number(cell, label, metric, round(statistics.fmean(known), 6), round(sd, 6), len(known))


def name_of(config: Mapping[str, Any]) -> str:
    """Return the name of a cell group: a digest of the science without seed and versions, 16 hex digits."""
    return digest(_unversioned({name: part for name, part in config.items() if name != "seed"}))[:16]


def _unversioned(node: Any) -> Any:
    if isinstance(node, list):
        return [_unversioned(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {name: _unversioned(item) for name, item in node.items() if name != "version" or "provider" not in node}


# -- files ------------------------------------------------------------------------------------------------------------
def read(folder: Path) -> list[Number]:
    """Return the accepted numbers in ``folder``.

    Raises:
        GauntletError: there are none.
    """
    found = [Number(**entry) for path in sorted(folder.glob("*.json")) for entry in json.loads(path.read_text("utf-8"))]
    if not found:
        raise GauntletError(
            f"There are no accepted numbers in {folder}; write them with --update-baseline and review them."
        )
    return found


def write(folder: Path, found: Iterable[Number], scale: str | None) -> list[Path]:
    """Replace the accepted numbers (of one ``scale``) by ``found``: a file a scale, a line a number."""
    by_file: dict[str, list[Number]] = defaultdict(list)
    for number in sorted(found, key=lambda number: (number.label, number.cell, number.metric)):
        parts = number.label.split(" / ")
        if scale in (None, parts[0]):
            by_file[f"{parts[0]}.json"].append(number)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"{scale or ''}*.json"):
        path.unlink()
    for name, entries in by_file.items():
        lines = ",\n".join(json.dumps(asdict(entry), ensure_ascii=False) for entry in entries)
        (folder / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return [folder / name for name in sorted(by_file)]


# -- verdicts ---------------------------------------------------------------------------------------------------------
def compare(accepted: Iterable[Number], measured: Iterable[Number]) -> list[Verdict]:
    """Compare each accepted number with the one measured now."""
    now = {(number.cell, number.metric): number for number in measured}
    return [_verdict(number, now.get((number.cell, number.metric))) for number in accepted]


def _verdict(accepted: Number, now: Number | None) -> Verdict:
    if now is None:
        return Verdict(accepted, None, NOT_RUN)
    near = abs(now.mean - accepted.mean) <= accepted.width(now.n)
    return Verdict(accepted, now.mean, INSIDE if near else OUTSIDE)
