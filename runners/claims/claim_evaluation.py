"""Evaluation of claims against records: inside, outside, known miss, not run, unavailable, or answered by a test."""

from __future__ import annotations

import math
import operator
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runners.claims.claims import Cells, Claim, Paper, names
from runners.config.identity import SINGLE, canonical
from runners.store.parts import PerCell
from runners.store.staleness import moved_on

INSIDE, OUTSIDE, MISSED = "inside", "outside", "known miss"
NOT_RUN, UNAVAILABLE, TESTED = "not run", "unavailable", "answered by a test"
STATES = (INSIDE, OUTSIDE, MISSED, NOT_RUN, UNAVAILABLE, TESTED)

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
class Answer:
    """State of a claim and the number behind it.

    Attributes:
        measured: the mean over seeds (of the difference or ratio, where the claim compares).
        sd: standard deviation over seeds, None for a single one.
        keys: keys of the records behind it.
        note: why there is no number, or a remark.
    """

    claim: Claim
    state: str
    measured: float | None = None
    sd: float | None = None
    seeds: int = 0
    keys: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """Values of a metric by group and seed, or the reason that there are none; ``lost``: runs without a number."""

    groups: list[BySeed] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    stale: bool = False
    lost: str = ""
    reason: str = ""

    def on(self, seeds: Iterable[int]) -> Sample:
        kept = set(seeds)
        return replace(self, groups=[{s: v for s, v in group.items() if s in kept} for group in self.groups])

    def seeds(self) -> set[int]:
        return set.intersection(*map(set, self.groups)) if self.groups else set()


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


def answer(claim: Claim, groups: Sequence[Group]) -> Answer:
    """Return the answer that the records give to ``claim``."""
    if claim.provenance == "unavailable":
        return Answer(claim, UNAVAILABLE, note=claim.why or "")
    if claim.test:
        return Answer(claim, TESTED, note=claim.test)
    assert claim.metric and claim.cells is not None
    own = _sample(claim, claim.cells, claim.metric, groups)
    if own.reason:
        return Answer(claim, NOT_RUN, note=own.reason)
    if claim.other is None:
        return _judged(claim, own, lambda reduce, seeds: _mean(reduce, own, seeds))
    other = _sample(claim, claim.other, claim.against_metric or claim.metric, groups)
    if other.reason:
        return Answer(claim, NOT_RUN, note=f"to compare with: {other.reason}")
    shared = own.seeds() & other.seeds()
    if not shared:
        return Answer(claim, NOT_RUN, note="the two cells share no seed")
    both = Sample(
        [*own.on(shared).groups, *other.on(shared).groups],
        tuple(dict.fromkeys(own.keys + other.keys)),
        stale=own.stale or other.stale,
        lost=own.lost or other.lost,
    )
    by = operator.sub if claim.by == "difference" else _ratio
    return _judged(claim, both, lambda reduce, s: by(_mean(reduce, own, s), _mean(reduce, other, s)))


# -- from cells to numbers --------------------------------------------------------------------------------------------
def _sample(claim: Claim, cells: Cells, metric: str, groups: Sequence[Group]) -> Sample:
    left = [group for group in groups if group.config["scale"]["name"] == claim.scale]
    if not left:
        return Sample(reason=f"no record of scale={claim.scale}")
    for path, wanted in sorted(cells.items(), key=lambda item: item[0].count(".")):
        kept = [group for group in left if _matches(group.config, path, wanted)]
        if not kept:
            return Sample(reason=f"no record has {path}={wanted} among the {len(left)} that match what is before it")
        left = kept
    left = [group for group in left if not group.stale] or left  # old records only where there are no others
    if len(left) > 1 and claim.reduce is None:
        return Sample(reason=f"ambiguous: {len(left)} cells match, which differ in {_differing(left)}; say `reduce`")
    values = [group.values(metric) for group in left]
    records = [record for group in left for record in group.records.values()]
    if not any(values):
        return Sample(reason=_no_number(records, metric))
    if not all(values):
        return Sample(reason=f"{sum(not found for found in values)} of {len(left)} cells have no number")
    lost = sum(len(group.records) - len(found) for group, found in zip(left, values, strict=True))
    return Sample(
        values,
        tuple(str(record["key"]) for record in records),
        stale=any(group.stale for group in left),
        lost=f"{lost} of {len(records)} runs gave no number" if lost else "",
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
def _mean(reduce: str | None, sample: Sample, seeds: Iterable[int] | None) -> float:
    """Return the mean over ``seeds`` (all where None) within each group, then combined over groups."""
    means = [statistics.fmean(g.values() if seeds is None else [g[s] for s in seeds]) for g in sample.groups]
    return REDUCERS[reduce or "mean"](means)


def _judged(claim: Claim, sample: Sample, number: Callable[[str | None, Iterable[int] | None], float]) -> Answer:
    """Return the state of a claim, whose quantity on ``seeds`` is ``number(reduce, seeds)``."""
    shared = sorted(sample.seeds())
    one_by_one = [number(claim.reduce, [seed]) for seed in shared]
    measured = number(claim.reduce, shared if claim.other else None)
    held = all(map(claim_holds(claim), one_by_one)) if claim.every_seed else claim_holds(claim)(measured)
    notes = ["components have changed since"] if sample.stale else []
    notes += [sample.lost] if sample.lost else []
    if claim.every_seed:
        notes.append(f"holds in {sum(map(claim_holds(claim), one_by_one))} of {len(shared)} seeds")
    if claim.miss:
        notes.append("no longer missed: drop `miss`" if held else f"known: {claim.miss}")
    state = INSIDE if held else MISSED if claim.miss else OUTSIDE
    seeds = len(shared) if claim.other or claim.every_seed else max(len(group) for group in sample.groups)
    sd = statistics.stdev(one_by_one) if len(one_by_one) > 1 and all(map(math.isfinite, one_by_one)) else None
    return Answer(claim, state, measured, sd, seeds, sample.keys, "; ".join(notes))


def claim_holds(claim: Claim) -> Callable[[float], bool]:
    """Return a test of whether a number agrees with the claim's value or inequality, up to rounding errors."""
    slack = 1e-9

    def holds(number: float) -> bool:
        if claim.value is not None:
            return abs(number - claim.value) <= (claim.tolerance or 0.0) + slack
        low = claim.at_least is None or number >= claim.at_least - slack
        return low and (claim.at_most is None or number <= claim.at_most + slack)

    return holds


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("inf") if one > 0 else float("nan") if one == 0 else float("-inf")
