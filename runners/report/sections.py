"""Results under one protocol as plain objects: which cell stands in which row, and which attack works there."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from runners.config.identity import digest
from runners.report.source import Line
from runners.report.statistics import Sample, Summary, summarise, ties
from runners.report.worst_case import Comparison, Worst, compare, worst_case

NONE = "none"
NOT_RUN = "not run"
NO_NUMBER = "no number"
UNPAIRED = "without its undefended run"
UNKNOWN_METRIC = "risk"  # of a threat that failed before it could tell
SLUG_LENGTH = 100
PLACE = ("setting_label", "dataset_label", "model_label", "scale")


@dataclass(frozen=True)
class Column:
    """A threat under one protocol. ``invalid`` says why nothing may be concluded from it; None: it works here.

    ``threat`` is its label, with parameters that tell it from others; ``name`` that of its option. An ``unranked`` one
    is shown and never a worst case. An ``awaited`` one has cells without a defense, none of which has a number yet.
    """

    threat: str
    name: str
    surface: str
    metric: str
    adaptive: bool
    control: str | None
    invalid: str | None
    unranked: bool = False
    awaited: bool = False

    @property
    def works(self) -> bool:
        """Return whether this is an attack that works here."""
        return self.control is None and self.invalid is None

    @property
    def counts(self) -> bool:
        """Return whether this may be a worst case."""
        return self.works and not self.unranked

    @property
    def open(self) -> bool:
        """Return whether this is an attack of which nobody knows yet if it counts."""
        return self.control is None and self.awaited and not self.unranked


@dataclass(frozen=True)
class Run:
    """A record of a cell, or a planned one without; ``reason``: the last line of why it is not ``ok``."""

    seed: int
    status: str
    key: str
    reason: str
    stale: bool


@dataclass(frozen=True)
class Cell:
    """A threat against a defense: its risk by seed, the seeds that gave none by reason, and its planned runs."""

    comparison: Comparison
    lost: Counter[str]
    runs: tuple[Run, ...] = ()

    @property
    def risk(self) -> Sample:
        return self.comparison.risk

    @property
    def played(self) -> bool:
        """Return whether there is any record."""
        return any(run.status != NOT_RUN for run in self.runs)

    @property
    def summary(self) -> Summary | None:
        return self.comparison.summary


@dataclass(frozen=True)
class Row:
    """A defense under one protocol.

    Attributes:
        defense: its label, with parameters that tell it from others; ``name`` that of its option, or of a stack's.
        plain: it is no defense, the row that the others are compared with.
        price: how much utility it loses against no defense, paired by threat and seed.
        cells: by threat label.
        worst: metric -> the worst case over the attacks judged by it, None where none was measured.
        met_adaptive: an adaptive attack that works here was measured against it.
        costs: mean of each kind.
        pictures: threat label -> name -> path in the store, of the lowest seed that left any.
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
        """Return the part of the label beside the name; of a stack the whole label, if it has parameters."""
        told = self.defense.removeprefix(self.name).strip(" ()")
        return "" if self.defense == self.name.replace("+", " + ") else told

    @property
    def lost(self) -> Counter[str]:
        return sum((cell.lost for cell in self.cells.values()), Counter())


@dataclass(frozen=True)
class Section:
    """Results of a board under one protocol, the undefended row first, then by growing worst case.

    Attributes:
        board: name of the board.
        setting, dataset, scale: names of the options, where ``place`` holds labels.
        fraction: utility lies in [0, 1] and is best read in per cent.
        chances: metric -> risk of the strongest negative control without a defense.
        tied: metric -> defenses that cannot be told from the best one.
    """

    board: str
    setting: str
    dataset: str
    scale: str
    place: tuple[str, ...]
    utility: str
    fraction: bool
    columns: list[Column]
    metrics: list[str]
    rows: list[Row]
    chances: dict[str, float]
    tied: dict[str, set[str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return " · ".join(self.place)

    @property
    def model(self) -> str:
        """Return the label of the model."""
        return self.place[2]

    @cached_property
    def slug(self) -> str:
        """Return its name in anchors of a page; a long one is cut, and made unique by a digest."""
        name = "-".join(re.sub(r"[^\w.=-]+", "-", part, flags=re.ASCII).strip("-") for part in self.place)
        return name if len(name) <= SLUG_LENGTH else f"{name[:SLUG_LENGTH]}-{digest(self.place)[:8]}"

    @cached_property
    def undefended(self) -> Row | None:
        return next((row for row in self.rows if row.plain), None)

    def met(self, row: Row, metric: str) -> bool:
        """Return whether the defense was played against any attack judged by ``metric``, whatever the result."""
        attacks = [c.threat for c in self.columns if c.metric == metric and c.control is None]
        return any(row.cells[threat].played for threat in attacks)

    def best(self, metric: str) -> Row | None:
        """Return the defense with the least worst case, among those that met every attack that works here."""
        return _best(self.rows, metric)

    def bare(self, metric: str) -> Worst | None:
        """Return the worst case without a defense."""
        return self.undefended.worst[metric] if self.undefended else None

    def chance(self, metric: str) -> float:
        """Return the risk of the strongest negative control without a defense, or 0 without such a control."""
        return self.chances.get(metric, 0.0)


def build(board: str, lines: Iterable[Line], *, planned: bool = False, unranked: Collection[str] = ()) -> list[Section]:
    """Return the sections of one board, one for each protocol, by their labels, those without any number last.

    Args:
        lines: as :func:`runners.report.source.lines` returns them.
        planned: ``lines`` hold every planned cell. Otherwise a seed of any run of a threat is expected of all defenses.
        unranked: options of threats that are no worst case.
    """
    places: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for line in lines:
        places[tuple(str(line[name]) for name in PLACE)].append(line)
    order = sorted(places, key=lambda place: (all(line["status"] != "ok" for line in places[place]), place))
    return [_section(board, place, places[place], planned, unranked) for place in order]


def _section(
    board: str, place: tuple[str, ...], lines: list[Line], planned: bool, unranked: Collection[str]
) -> Section:
    finished = [line for line in lines if line["status"] == "ok"]
    utility = next((str(line["utility_metric"]) for line in finished if line["utility_metric"]), "utility")
    by_threat, by_defense = _grouped(lines, "threat_label"), _grouped(finished, "defense_label")
    plain = [line for line in finished if line["defense"] == NONE]
    plain_by_threat = _grouped(plain, "threat_label")
    columns = [_column(t, of_it, plain_by_threat.get(t, []), unranked) for t, of_it in sorted(by_threat.items())]
    attacks = Counter(column.metric for column in columns if column.control is None)
    metrics = sorted(attacks, key=lambda metric: (-attacks[metric], metric))
    columns.sort(key=lambda c: (c.control is not None, [*metrics, c.metric].index(c.metric), c.threat))
    chances = _chances(columns, plain_by_threat)
    cells = _cells(lines, columns, chances, plain_by_threat, planned)
    names = {str(line["defense_label"]): str(line["defense"]) for line in lines}
    rows = [
        _row(label, name, by_defense.get(label, []), plain, cells[label], utility, columns, metrics)
        for label, name in names.items()
    ]
    rows.sort(key=lambda row: (not row.plain, [_rank(row.worst[metric]) for metric in metrics], row.defense))
    values = _numbers(finished, f"utility.{utility}")
    return Section(
        board=board,
        setting=str(lines[0]["setting"]),
        dataset=str(lines[0]["dataset"]),
        scale=str(lines[0]["scale"]),
        place=place,
        utility=utility,
        fraction=all(0 <= value <= 1 for value in values),
        columns=columns,
        metrics=metrics,
        rows=rows,
        chances=chances,
        tied={metric: _tied(rows, metric) for metric in metrics},
    )


def _grouped(lines: Iterable[Line], name: str) -> dict[str, list[Line]]:
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        groups[str(line[name])].append(line)
    return groups


def _numbers(lines: Iterable[Line], name: str) -> list[float]:
    """Return every value of an entry, which not all lines have."""
    return [float(value) for line in lines if (value := line.get(name)) is not None]


# -- columns ----------------------------------------------------------------------------------------------------------
def _column(threat: str, lines: list[Line], plain: list[Line], unranked: Collection[str]) -> Column:
    """Return the column of a threat from its lines and the finished ones among them without a defense."""
    # A cell that failed may not have read its data, on whose kind the headline depends.
    first = min(lines, key=lambda line: (line["status"] != "ok", line["headline"] is None, line["headline"] or ""))
    return Column(
        threat=threat,
        name=str(first["threat"]),
        surface=str(first["surface"] or "unknown"),
        metric=str(first["headline"] or UNKNOWN_METRIC),
        adaptive=bool(first["adaptive"]),
        control=first["control"],
        invalid=None if first["control"] else _invalid(first, plain),
        unranked=first["threat"] in unranked,
        awaited=not plain and any(line["defense"] == NONE for line in lines),
    )


def _invalid(threat: Line, plain: list[Line]) -> str | None:
    """Return why the attack proves nothing here, judged by its undefended lines; None where it works."""
    metric, least = threat["floor_metric"], threat["floor_at_least"]
    reached = _numbers(plain, f"risk.{metric}" if metric else "headline_value")
    if not reached:
        return "no finished run without defense"
    mean = fmean(reached)
    return f"attack reaches {metric} {mean:.3g} < {least:g} without defense" if metric and mean < least else None


UNWATCHED = frozenset({"missed"})
"""Risks that are 1 without a defense, whatever happens, so that no control tells what chance is: nobody watches."""


def _chances(columns: Iterable[Column], plain: Mapping[str, list[Line]]) -> dict[str, float]:
    """Return, by metric, the mean risk of the strongest negative control without a defense."""
    found: dict[str, float] = {}
    for column in columns:
        if column.metric in UNWATCHED:
            continue
        if column.control == "negative" and (reached := _numbers(plain.get(column.threat, []), "headline_value")):
            found[column.metric] = max(fmean(reached), found.get(column.metric, fmean(reached)))
    return found


# -- cells ------------------------------------------------------------------------------------------------------------
def _cells(
    lines: Iterable[Line],
    columns: Iterable[Column],
    chances: Mapping[str, float],
    plain: Mapping[str, list[Line]],
    planned: bool,
) -> dict[str, dict[str, Cell]]:
    """Return the cell of every pair by defense and threat."""
    seeds: dict[str, set[int]] = defaultdict(set)
    pairs: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        if not planned:
            seeds[line["threat_label"]].add(line["seed"])
        pairs[line["defense_label"], line["threat_label"]].append(line)
    bare = {threat: _risks(of_it) for threat, of_it in plain.items()}
    return {
        defense: {
            column.threat: _cell(
                pairs.get((defense, column.threat), []),
                seeds[column.threat],
                bare.get(column.threat, {}) if column.works else None,
                chances.get(column.metric, 0.0),
            )
            for column in columns
        }
        for defense in dict.fromkeys(defense for defense, _ in pairs)
    }


def _risks(lines: Iterable[Line]) -> dict[int, float]:
    """Return the risk by seed, of the finished runs that have one."""
    return {
        line["seed"]: float(line["headline_value"])
        for line in lines
        if line["status"] == "ok" and line["headline_value"] is not None
    }


def _cell(lines: list[Line], seeds: set[int], bare: Sample | None, chance: float) -> Cell:
    """Return one cell; ``bare``: risk without a defense, None where the threat is no attack that works here."""
    risk = _risks(lines)
    comparison = Comparison(risk, {}, chance) if bare is None else compare(risk, bare, chance)
    lost = Counter(
        NO_NUMBER if line["status"] == "ok" else line["status"] for line in lines if line["seed"] not in risk
    )
    lost[NOT_RUN] += len(seeds - {line["seed"] for line in lines})
    lost[UNPAIRED] = len(risk) - len(comparison.risk)
    runs = [Run(*(line[name] for name in ("seed", "status", "key", "reason", "stale"))) for line in lines]
    return Cell(comparison, +lost, tuple(sorted(runs, key=lambda run: (run.seed, run.key))))


# -- rows -------------------------------------------------------------------------------------------------------------
def _row(
    label: str,
    name: str,
    own: list[Line],
    undefended: list[Line],
    cells: dict[str, Cell],
    utility: str,
    columns: Sequence[Column],
    metrics: Iterable[str],
) -> Row:
    """Return the row of a defense from its own finished lines and those without a defense."""
    plain = name == NONE
    attacks = [column for column in columns if column.counts]
    return Row(
        defense=label,
        name=name,
        plain=plain,
        utility=summarise(list(_by_seed((line["seed"], line.get(f"utility.{utility}")) for line in own).values())),
        price=None if plain else _price(own, undefended, f"utility.{utility}"),
        cells=cells,
        worst={
            m: worst_case({c.threat: cells[c.threat].comparison for c in attacks if c.metric == m}) for m in metrics
        },
        met_adaptive=any(cells[column.threat].risk for column in attacks if column.adaptive),
        costs=_costs(own),
        seeds=len({line["seed"] for line in own}),
        pictures=_pictures(own),
    )


def _by_seed(values: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    """Return the mean of the values of each seed, in the order of seeds."""
    found: dict[int, list[float]] = defaultdict(list)
    for seed, value in values:
        if value is not None:
            found[seed].append(float(value))
    return {seed: fmean(found[seed]) for seed in sorted(found)}


def _price(own: list[Line], plain: list[Line], utility: str) -> Summary | None:
    """Return the utility lost against no defense: paired by threat and seed, so that only the defense differs."""
    bare = {(line["threat_label"], line["seed"]): line.get(utility) for line in plain}
    lost = []
    for line in own:
        before, after = bare.get((line["threat_label"], line["seed"])), line.get(utility)
        lost.append((line["seed"], None if before is None or after is None else before - after))
    return summarise(list(_by_seed(lost).values()))


def _costs(own: Iterable[Line]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for line in own:
        for name, value in line.items():
            if name.startswith("cost.") and value is not None:
                found[name.removeprefix("cost.")].append(value)
    return {kind: fmean(found[kind]) for kind in sorted(found)}


def _pictures(own: Iterable[Line]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in sorted(own, key=lambda line: line["seed"]):
        kept = {n.removeprefix("media."): str(p) for n, p in line.items() if n.startswith("media.") and p is not None}
        if kept:
            found.setdefault(str(line["threat_label"]), kept)
    return dict(sorted(found.items()))


# -- ranks ------------------------------------------------------------------------------------------------------------
def _rank(worst: Worst | None) -> float:
    return float("inf") if worst is None else worst.mean


def _best(rows: list[Row], metric: str) -> Row | None:
    complete = [row for row in rows if not row.plain and (worst := row.worst[metric]) and worst.complete]
    return min(complete, key=lambda row: _rank(row.worst[metric]), default=None)


def _tied(rows: list[Row], metric: str) -> set[str]:
    best = _best(rows, metric)
    worst = {row.defense: [found.comparison.risk] for row in rows if not row.plain and (found := row.worst[metric])}
    return ties(best.defense, worst) if best else set()
