"""Evaluation of claims against records: a state for each, from the interval of its number over the seeds."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runners.claims.claims import KINDS, Cells, Claim, Paper, Rival, names
from runners.claims.intervals import Interval, of_factor, of_mean, of_ratio
from runners.config.identity import SINGLE, canonical
from runners.store.parts import PerCell
from runners.store.staleness import moved_on

INSIDE, UNDECIDED, OUTSIDE, MISSED = "inside", "undecided", "outside", "known miss"
VACUOUS, AMBIGUOUS = "vacuous", "ambiguous"
NOT_RUN, UNAVAILABLE, TESTED = "not run", "unavailable", "answered by a test"
STATES = (INSIDE, UNDECIDED, OUTSIDE, VACUOUS, AMBIGUOUS, MISSED, NOT_RUN, UNAVAILABLE, TESTED)
FAULTS = (OUTSIDE, VACUOUS, AMBIGUOUS)
"""States with which ``gauntlet check`` fails."""

Record = Mapping[str, Any]
BySeed = dict[int, float]
REDUCERS: dict[str, Callable[[Iterable[float]], float]] = {"mean": statistics.fmean, "min": min, "max": max}


@dataclass(frozen=True)
class Group:
    """Records of one cell over its seeds; ``stale``: a component's version is newer now."""

    config: Record
    records: dict[int, Record]
    stale: bool

    def values(self, metric: str) -> BySeed:
        """Return the value by seed, of the finished records that have this metric."""
        section, _, name = metric.partition(".")
        found = {seed: record[section].get(name) for seed, record in self.records.items() if record["status"] == "ok"}
        return {seed: value for seed, value in found.items() if isinstance(value, int | float)}


@dataclass(frozen=True)
class Number:
    """The number of a claim, or of a rival in its place.

    Attributes:
        measured: the mean over seeds (of the difference or ratio, where the claim compares); None where there is none.
        interval: of 95 % over the seeds; the number itself for a single seed.
        sd: standard deviation over seeds, None for a single one.
        keys: keys of the records behind it.
        ambiguous: several cells match, so that there is no number.
        broken: a run does not keep the claim's budget, so that the number does not count.
        notes: why there is no number, or remarks on it.
    """

    measured: float | None = None
    interval: Interval | None = None
    sd: float | None = None
    seeds: int = 0
    keys: tuple[str, ...] = ()
    ambiguous: bool = False
    broken: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """State of a claim and the number behind it; ``rivals``: name -> the number of what it must fail for."""

    claim: Claim
    state: str
    number: Number = Number()
    rivals: Mapping[str, Number] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """Values of a metric by group and seed, or the reason that there are none.

    Attributes:
        lost: how many runs have no number; broken: how many do not keep the budget of the claim.
    """

    groups: list[BySeed] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    stale: bool = False
    lost: str = ""
    broken: str = ""
    reason: str = ""
    ambiguous: bool = False

    def seeds(self) -> set[int]:
        return set.intersection(*map(set, self.groups)) if self.groups else set()

    def by_seed(self, reduce: str | None, seeds: Iterable[int]) -> list[float]:
        """Return a value for each of ``seeds``, that of several cells combined by ``reduce``."""
        return [REDUCERS[reduce or "mean"]([group[seed] for group in self.groups]) for seed in sorted(seeds)]


def groups_of(records: Iterable[Record]) -> list[Group]:
    """Return records grouped by equality of their cells but for the seed, in the order of their first record."""
    found: dict[str, list[Record]] = defaultdict(list)
    name_of = PerCell(lambda config: canonical({name: part for name, part in config.items() if name != "seed"}))
    for record in records:
        found[name_of(record["config"])].append(record)
    return [
        Group(cells[0]["config"], {record["seed"]: record for record in cells}, bool(moved_on(cells[0]["config"])))
        for cells in found.values()
    ]


def evaluate(papers: Iterable[Paper], groups: Sequence[Group]) -> list[tuple[Paper, list[Answer]]]:
    """Return each paper with an answer to each of its claims."""
    by_scale: dict[str | None, list[Group]] = defaultdict(list)
    for group in groups:
        by_scale[group.config["scale"]["name"]].append(group)
    return [(paper, [answer(claim, by_scale[claim.scale]) for claim in paper.claims]) for paper in papers]


def in_order(answers: Iterable[Answer]) -> list[Answer]:
    """Return the answers by the kind of their claims, our own gates last."""
    return sorted(answers, key=lambda one: KINDS.index(one.claim.kind))


def answer(claim: Claim, groups: Sequence[Group]) -> Answer:
    """Return the answer that the records give to ``claim``."""
    if claim.test:
        return Answer(claim, TESTED, note=claim.test)
    if claim.cells is None:
        return Answer(claim, UNAVAILABLE, note=claim.why or "")
    number = _number(claim, claim.cells, groups)
    rivals = {name: _rival(claim, rival, groups) for name, rival in claim.must_fail.items()}
    state, notes = _judged(claim, number), list(number.notes)
    if state == NOT_RUN and number.ambiguous:
        state = AMBIGUOUS
    if state == OUTSIDE and claim.miss:
        state = MISSED
        notes.append(f"known: {claim.miss}")
    elif claim.miss and state == INSIDE:
        notes.append("no longer missed: drop `miss`")
    for name, rival in rivals.items():
        passes = rival.measured is not None and not claim.too_low(rival.measured) and not claim.too_high(rival.measured)
        if passes and not rival.broken:
            state = VACUOUS
            notes.append(f"its rival passes: {name}, {rival.measured:.4g}")
        elif rival.measured is None and number.measured is not None:
            notes.append(f"rival {AMBIGUOUS if rival.ambiguous else NOT_RUN}: {name}")
    return Answer(claim, state, number, rivals, "; ".join(notes))


def measured(answer: Answer) -> str:
    """Return mean, 95 % interval and count of seeds as text: ``0.951 [0.94, 0.96] (n=3)``."""
    number = answer.number
    if number.measured is None or number.interval is None:
        return "–"
    interval = "" if number.seeds == 1 else " [{:.3g}, {:.3g}]".format(*number.interval)
    return f"{number.measured:.4g}{interval} (n={number.seeds})"


# -- from cells to numbers --------------------------------------------------------------------------------------------
def matching(scale: str | None, cells: Cells, groups: Iterable[Group]) -> tuple[list[Group], str]:
    """Return the groups of ``scale``, in full precision, that ``cells`` names, and why there is none."""
    alike = (group for group in groups if "precision" not in group.config)  # claims are about full precision
    left = [group for group in alike if group.config["scale"]["name"] == scale]
    if not left:
        return [], f"no record of scale={scale}"
    for path, wanted in sorted(cells.items(), key=lambda item: item[0].count(".")):
        kept = [group for group in left if _matches(group.config, path, wanted)]
        if not kept:
            return [], f"no record has {path}={wanted} among the {len(left)} that match what is before it"
        left = kept
    return left, ""


def _sample(claim: Claim, cells: Cells, metric: str, groups: Sequence[Group]) -> Sample:
    left, reason = matching(claim.scale, cells, groups)
    if reason:
        return Sample(reason=reason)
    left = [group for group in left if not group.stale] or left  # old records only where there are no others
    if len(left) > 1 and claim.reduce is None:
        told = f"{len(left)} cells match, which differ in {_differing(left)}; say `reduce`"
        return Sample(reason=told, ambiguous=True)
    values = [group.values(metric) for group in left]
    records = [record for group in left for record in group.records.values()]
    if not any(values):
        return Sample(reason=_no_number(records, metric))
    if not all(values):
        return Sample(reason=f"{sum(not found for found in values)} of {len(left)} cells have no number")
    lost = sum(len(group.records) - len(found) for group, found in zip(left, values, strict=True))
    broken = sum(record["status"] == "ok" and not claim.keeps_budget(record) for record in records)
    return Sample(
        values,
        tuple(str(record["key"]) for record in records),
        stale=any(group.stale for group in left),
        lost=f"{lost} of {len(records)} runs gave no number" if lost else "",
        broken=f"{broken} of {len(records)} runs do not keep {claim.budget}" if broken else "",
    )


def _no_number(records: list[Record], metric: str) -> str:
    broken = sorted({str(record["status"]) for record in records if record["status"] != "ok"})
    section, _, name = metric.partition(".")
    have = sorted({known for record in records for known in record[section]})
    if name in have or not have:
        return f"all runs {' or '.join(broken)}" if broken else f"{metric} is not a number"
    return f"there is no {metric}; there is {', '.join(have)}"


def _matches(config: Record, path: str, wanted: Any) -> bool:
    group, *rest = path.split(".")
    if group == "defense":
        if not rest:
            return [part["name"] for part in config["defense"]] == names(wanted)
        node: Any = next((part for part in config["defense"] if part["name"] == rest[0]), None)
        rest = rest[1:]
    else:
        node = config[group]
        rest = rest or ["name"]
    for name in rest:
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return bool(node == wanted) and isinstance(node, bool) == isinstance(wanted, bool)


def _differing(groups: list[Group]) -> str:
    """Return some of the parameters in which the groups differ, as text."""
    flat = [dict(_leaves(group.config)) for group in groups]
    known = dict.fromkeys(path for one in flat for path in one)
    paths = [path for path in known if len({str(one.get(path)) for one in flat}) > 1]
    return ", ".join(paths[:4]) + (", ..." if len(paths) > 4 else "")


def _leaves(config: Record) -> Iterable[tuple[str, Any]]:
    nodes = [(group, config[group]) for group in SINGLE]
    for path, node in [*nodes, *((f"defense.{part['name']}", part) for part in config["defense"])]:
        yield from _flat(path, node)


def _flat(path: str, node: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _flat(path if name == "name" else f"{path}.{name}", value)
    else:
        yield path, node


# -- from numbers to a state ------------------------------------------------------------------------------------------
def _rival(claim: Claim, rival: Rival, groups: Sequence[Group]) -> Number:
    """Return the number of ``rival`` in place of the claim's own cells; a number is known in closed form."""
    if rival == "tie":
        return Number(0.0 if claim.by == "difference" else 1.0)
    if isinstance(rival, dict):
        return _number(claim, claim.with_(rival), groups)
    return _number(claim, claim.cells or {}, groups, instead=rival)


def _number(claim: Claim, cells: Cells, groups: Sequence[Group], *, instead: float | None = None) -> Number:
    """Return the number of the claim with ``cells`` as its own ones, ``instead`` of what was measured in them.

    Two metrics of the same cells stay a comparison within them, whichever they are.
    """
    assert claim.metric
    own = _sample(claim, cells, claim.metric, groups) if instead is None else Sample()
    if own.reason:
        return Number(ambiguous=own.ambiguous, notes=(own.reason,))
    if not claim.compares:
        values = [instead] if instead is not None else own.by_seed(claim.reduce, own.seeds())
        return _summed(values, of_mean(values), own) if values else Number(notes=("the cells share no seed",))
    against = claim.other if claim.against is not None else cells
    assert against is not None
    other = _sample(claim, against, claim.against_metric or claim.metric, groups)
    if other.reason:
        return Number(ambiguous=other.ambiguous, notes=(f"to compare with: {other.reason}",))
    shared = other.seeds() & own.seeds() if instead is None else other.seeds()
    if not shared:
        return Number(notes=("the two cells share no seed",))
    a = own.by_seed(claim.reduce, shared) if instead is None else [instead] * len(shared)
    b = other.by_seed(claim.reduce, shared)
    both = replace(own, keys=tuple(dict.fromkeys(own.keys + other.keys)), stale=own.stale or other.stale)
    both = replace(both, lost=own.lost or other.lost)  # the budget is one of the claim's own cells
    if claim.by == "difference":
        gaps = [x - y for x, y in zip(a, b, strict=True)]
        return _summed(gaps, of_mean(gaps), both)
    ratios = [_ratio(x, y) for x, y in zip(a, b, strict=True)]
    geometric = claim.by == "factor" and all(ratio > 0 for ratio in ratios)
    mean = statistics.geometric_mean(ratios) if geometric else _ratio(statistics.fmean(a), statistics.fmean(b))
    return replace(_summed(ratios, of_factor(ratios) if claim.by == "factor" else of_ratio(a, b), both), measured=mean)


def _summed(values: Sequence[float], interval: Interval, sample: Sample) -> Number:
    remarks = {
        "components have changed since": sample.stale,
        sample.lost: bool(sample.lost),
        sample.broken: bool(sample.broken),
        "one seed: no interval": len(values) == 1,
    }
    notes = tuple(remark for remark, due in remarks.items() if due)
    sd = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Number(
        statistics.fmean(values), interval, sd, len(values), sample.keys, broken=bool(sample.broken), notes=notes
    )


def _judged(claim: Claim, number: Number) -> str:
    """Return inside if the whole interval is, outside if nothing of it is; a value allows for its tolerance.

    A value is met by an interval that reaches its tolerance and is no wider than that.
    """
    if number.interval is None:
        return NOT_RUN
    if number.broken:
        return OUTSIDE
    low, high = number.interval
    if claim.too_low(high) or claim.too_high(low):
        return OUTSIDE
    if claim.value is not None:
        return INSIDE if high - low <= 2 * (claim.tolerance or 0.0) + 1e-9 else UNDECIDED
    return INSIDE if not claim.too_low(low) and not claim.too_high(high) else UNDECIDED


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("inf") if one > 0 else float("nan") if one == 0 else float("-inf")
