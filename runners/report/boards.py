"""What a leaderboard says, as plain objects: which cell stands in which row, what is valid, and who is worst off."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from runners.config.identity import digest
from runners.report.statistics import Sample, Summary, summarise, ties

NONE = "none"
NOT_RUN = "not run"
NO_NUMBER = "no number"
UNKNOWN_METRIC = "risk"  # of a threat that failed before it could tell
SLUG_LENGTH = 100
PLACE = ["setting_label", "dataset_label", "model_label", "scale"]


@dataclass(frozen=True)
class Column:
    """A threat in one place. ``invalid`` says why nothing may be concluded from it; None: it works here.

    ``threat`` is its label, with parameters that tell it from others; ``name`` that of its option.
    """

    threat: str
    name: str
    surface: str
    metric: str
    adaptive: bool
    control: str | None
    invalid: str | None


@dataclass(frozen=True)
class Run:
    """One record of a cell; ``reason``: the last line of why it is not ``ok``."""

    seed: int
    status: str
    key: str
    reason: str
    stale: bool


@dataclass(frozen=True)
class Cell:
    """One threat against one defense: its risk by seed, the seeds that gave none by reason, and its records."""

    risk: Sample
    lost: Counter[str]
    runs: tuple[Run, ...] = ()

    @cached_property
    def summary(self) -> Summary | None:
        return summarise(list(self.risk.values()))


@dataclass(frozen=True)
class Worst:
    """The strongest valid attack on a row; ``complete``: every valid attack of that metric was measured."""

    threat: str
    cell: Cell
    complete: bool

    @property
    def mean(self) -> float:
        assert self.cell.summary is not None
        return self.cell.summary.mean


@dataclass(frozen=True)
class Row:
    """A defense.

    Attributes:
        defense: its label, with parameters that tell it from others; ``name`` that of its option, or of a stack's.
        plain: it is no defense, the row that the others are held against.
        price: how much utility it loses against no defense, paired by threat and seed.
        cells: by threat label.
        worst: metric -> the worst case over the valid threats judged by it, None where none was measured.
        met_adaptive: a valid adaptive threat was measured against it.
        costs: mean of each kind.
        pictures: threat label -> name -> path in the store, of the lowest seed.
    """

    defense: str
    name: str
    plain: bool
    utility: Summary | None
    price: Summary | None
    cells: dict[str, Cell]
    worst: dict[str, Worst | None]
    met_adaptive: bool
    costs: dict[str, float]
    seeds: int
    pictures: dict[str, dict[str, str]]

    @property
    def parameters(self) -> str:
        """What its label says beside the name; of a stack the label itself, where there is more."""
        told = self.defense.removeprefix(self.name).strip(" ()")
        return "" if self.defense == self.name.replace("+", " + ") else told

    @property
    def lost(self) -> Counter[str]:
        return sum((cell.lost for cell in self.cells.values()), Counter())


@dataclass(frozen=True)
class Board:
    """All that was measured in one place, the undefended row first, then from the least to the greatest worst case.

    Attributes:
        setting, dataset, scale: names of the options, where ``place`` holds labels.
        fraction: utility lies in [0, 1] and is best read in per cent.
        tied: metric -> defenses that cannot be told from the best one.
    """

    setting: str
    dataset: str
    scale: str
    place: tuple[str, ...]
    utility: str
    fraction: bool
    columns: list[Column]
    metrics: list[str]
    rows: list[Row]
    tied: dict[str, set[str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return " · ".join(self.place)

    @property
    def model(self) -> str:
        """The model's label."""
        return self.place[2]

    @property
    def slug(self) -> str:
        """Its name in file names and anchors; long ones are cut, and told apart by a digest."""
        name = "-".join(re.sub(r"[^\w.=-]+", "-", part, flags=re.ASCII).strip("-") for part in self.place)
        return name if len(name) <= SLUG_LENGTH else f"{name[:SLUG_LENGTH]}-{digest(self.place)[:8]}"

    @cached_property
    def undefended(self) -> Row | None:
        return next((row for row in self.rows if row.plain), None)

    def met(self, row: Row, metric: str) -> bool:
        """Whether the defense was played against any attack judged by ``metric``, whatever came out."""
        attacks = [c.threat for c in self.columns if c.metric == metric and c.control is None]
        return any(row.cells[threat].runs for threat in attacks)

    def best(self, metric: str) -> Row | None:
        """The defense with the least worst case, among those that met every valid threat."""
        return _best(self.rows, metric)

    def bare(self, metric: str) -> Worst | None:
        """The worst case without a defense."""
        return self.undefended.worst[metric] if self.undefended else None

    def chance(self, metric: str) -> float:
        """What the strongest negative control reaches without a defense, or 0 without such a control."""
        return self._chances.get(metric, 0.0)

    @cached_property
    def _chances(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for column in self.columns:
            if column.control == "negative" and self.undefended and (s := self.undefended.cells[column.threat].summary):
                found[column.metric] = max(s.mean, found.get(column.metric, s.mean))
        return found


def build(frame: pd.DataFrame) -> list[Board]:
    """The boards of a table from :func:`runners.store.table.load`: one for each setting, dataset, model and scale."""
    return [_board(tuple(map(str, place)), part) for place, part in frame.groupby(PLACE, sort=True)]


def _board(place: tuple[str, ...], part: pd.DataFrame) -> Board:
    part = _known(part)
    finished = part[part["status"] == "ok"]
    utility = next(iter(finished["utility_metric"].dropna()), "utility")
    values = finished[f"utility.{utility}"] if f"utility.{utility}" in finished else pd.Series(dtype=float)
    columns = _columns(part, finished)
    attacks = Counter(column.metric for column in columns if column.control is None)
    metrics = sorted(attacks, key=lambda metric: (-attacks[metric], metric))
    columns.sort(key=lambda c: (c.control is not None, [*metrics, c.metric].index(c.metric), c.threat))
    cells = _cells(part)
    names = dict(zip(part["defense_label"], part["defense"], strict=True))
    own = dict(iter(finished.groupby("defense_label")))
    plain = finished[finished["defense"] == NONE]
    rows = [
        _row((label, name), own.get(label, finished.head(0)), plain, cells[label], utility, columns)
        for label, name in names.items()
    ]
    rows.sort(key=lambda row: (not row.plain, [_rank(row.worst[metric]) for metric in metrics], row.defense))
    fraction = bool(values.dropna().between(0, 1).all())
    setting, dataset, scale = (str(part[kind].iloc[0]) for kind in ("setting", "dataset", "scale"))
    return Board(
        setting, dataset, scale, place, utility, fraction, columns, metrics, rows, {m: _tied(rows, m) for m in metrics}
    )


def _known(part: pd.DataFrame) -> pd.DataFrame:
    """``part`` without the entries that none of its records has; a store has hundreds of them."""
    kept = [name for name in part if "." not in str(name) or part[name].notna().any()]
    return part[kept]


# -- columns ----------------------------------------------------------------------------------------------------------
def _columns(part: pd.DataFrame, finished: pd.DataFrame) -> list[Column]:
    plain = finished[finished["defense"] == NONE]
    columns = []
    for threat, of_threat in part.groupby("threat_label", sort=True):
        first = of_threat.sort_values("headline", na_position="last", kind="stable").iloc[0]
        headline = UNKNOWN_METRIC if pd.isna(first["headline"]) else str(first["headline"])
        control = None if pd.isna(first["control"]) else str(first["control"])
        invalid = None if control else _invalid(first, plain[plain["threat_label"] == threat])
        name = str(first["threat"])
        surface = "unknown" if pd.isna(first["surface"]) else str(first["surface"])
        columns.append(Column(str(threat), name, surface, headline, bool(first["adaptive"]), control, invalid))
    return columns


def _invalid(threat: pd.Series, plain: pd.DataFrame) -> str | None:
    """Why the attack proves nothing here, judged by its undefended rows ``plain``."""
    reached = plain["headline_value"].dropna()
    if not pd.isna(threat["floor_metric"]):
        column = f"risk.{threat['floor_metric']}"
        reached = plain[column].dropna() if column in plain else reached.head(0)
    if reached.empty:
        return "no finished run without defense"
    if reached.mean() < threat["floor_at_least"]:
        metric, least = threat["floor_metric"], threat["floor_at_least"]
        return f"attack reaches {metric} {reached.mean():.3g} < {least:g} without defense"
    return None


# -- rows -------------------------------------------------------------------------------------------------------------
def _row(
    told: tuple[str, str],
    own: pd.DataFrame,
    undefended: pd.DataFrame,
    cells: dict[str, Cell],
    utility: str,
    columns: list[Column],
) -> Row:
    """The row of a defense from its label and name, its own finished records and those without a defense."""
    label, name = told
    plain = name == NONE
    costs = {str(c).removeprefix("cost."): own[c].mean() for c in own if str(c).startswith("cost.")}
    valid = [column for column in columns if column.control is None and column.invalid is None]
    metrics = {column.metric for column in columns if column.control is None}
    return Row(
        defense=label,
        name=name,
        plain=plain,
        utility=_utility(own, utility),
        price=None if plain else _price(own, undefended, utility),
        cells=cells,
        worst={m: _worst(cells, [c.threat for c in valid if c.metric == m]) for m in metrics},
        met_adaptive=any(cells[column.threat].risk for column in valid if column.adaptive),
        costs={kind: float(mean) for kind, mean in costs.items() if not pd.isna(mean)},
        seeds=own["seed"].nunique(),
        pictures=_pictures(own),
    )


def _cells(part: pd.DataFrame) -> dict[str, dict[str, Cell]]:
    """Defense -> threat -> cell, for every pair. A seed that a threat was run with anywhere is expected of all."""
    seeds: dict[str, set[int]] = defaultdict(set)
    runs: dict[tuple[str, str], list[tuple[Run, float]]] = defaultdict(list)
    fields = ("defense_label", "threat_label", "headline_value", "seed", "status", "key", "reason", "stale")
    for defense, threat, value, *run in zip(*(part[name].tolist() for name in fields), strict=True):
        told = Run(*run)
        seeds[threat].add(told.seed)
        runs[defense, threat].append((told, value))
    return {
        defense: {threat: _cell(runs[defense, threat], seeds[threat]) for threat in seeds}
        for defense in part["defense_label"].unique()
    }


def _cell(runs: list[tuple[Run, float]], seeds: set[int]) -> Cell:
    """One cell from its runs, each with its risk; that is NaN where there is none."""
    risk = {run.seed: value for run, value in runs if run.status == "ok" and not math.isnan(value)}
    lost = Counter(NO_NUMBER if run.status == "ok" else run.status for run, _ in runs if run.seed not in risk)
    lost[NOT_RUN] = len(seeds - {run.seed for run, _ in runs})
    return Cell(risk, +lost, tuple(sorted((run for run, _ in runs), key=lambda run: (run.seed, run.key))))


def _utility(own: pd.DataFrame, metric: str) -> Summary | None:
    column = f"utility.{metric}"
    return summarise(own.groupby("seed")[column].mean().dropna().tolist()) if column in own else None


def _price(own: pd.DataFrame, plain: pd.DataFrame, metric: str) -> Summary | None:
    """What is lost against no defense: paired by threat and seed, so that only the defense differs, then by seed."""
    pair, column = ["threat_label", "seed"], f"utility.{metric}"
    if column not in own:
        return None
    both = plain[[*pair, column]].merge(own[[*pair, column]], on=pair, suffixes=("_plain", "_own"))
    lost = (both[f"{column}_plain"] - both[f"{column}_own"]).groupby(both["seed"]).mean().dropna()
    return summarise(lost.tolist())


def _worst(cells: dict[str, Cell], threats: Iterable[str]) -> Worst | None:
    measured, missing = {}, False
    for threat in threats:
        summary = cells[threat].summary
        if summary is None:
            missing = True
        else:
            measured[threat] = summary.mean
    if not measured:
        return None
    strongest = max(sorted(measured), key=lambda threat: measured[threat])
    return Worst(strongest, cells[strongest], complete=not missing)


def _pictures(own: pd.DataFrame) -> dict[str, dict[str, str]]:
    names = [str(column) for column in own if str(column).startswith("media.")]
    first = own.sort_values("seed", kind="stable").groupby("threat_label", sort=True).head(1)
    found: dict[str, dict[str, str]] = {}
    for _, row in first.iterrows():
        kept = {name.removeprefix("media."): str(row[name]) for name in names if not pd.isna(row[name])}
        if kept:
            found[str(row["threat_label"])] = kept
    return found


# -- ranks ------------------------------------------------------------------------------------------------------------
def _rank(worst: Worst | None) -> float:
    return float("inf") if worst is None else worst.mean


def _best(rows: list[Row], metric: str) -> Row | None:
    complete = [row for row in rows if not row.plain and (worst := row.worst[metric]) and worst.complete]
    return min(complete, key=lambda row: _rank(row.worst[metric]), default=None)


def _tied(rows: list[Row], metric: str) -> set[str]:
    best = _best(rows, metric)
    worst = {row.defense: found.cell.risk for row in rows if not row.plain and (found := row.worst[metric])}
    return ties(best.defense, worst) if best else set()
