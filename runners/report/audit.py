"""Contents of an audit's report: what the records say in plain words, with the command behind every number.

:mod:`runners.report.audit_pages` writes them down. They are made from the records in the audit's folder alone.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from runners.report import board_text, boards, source
from runners.report.sections import Column, Row, Section
from runners.report.statistics import Summary
from runners.store.gate import visible
from runners.store.records import FINISHED
from runners.sweep.audit import NO_TIME, Audit, Data, defense_of, is_adaptive, threat_of
from runners.sweep.plan import Planned
from runners.sweep.progress import duration

NAME = "audit"
AUC = "attack_auc"
CHANCE = {AUC: 0.5}
"""Risk of guessing, by the definition of a metric, where no control was played."""
MEANING = {
    "ssim": "likeness of what the attacker recovers to the private samples; 1 is a copy",
    "recovered_share": "share of the private samples that the attacker recovers",
    "values_recovered": "share of the private values that the attacker tells to a twentieth of their range",
    AUC: "how well the attacker tells members from others; 0.5 is guessing, 1 is certainty",
    "accuracy_drop": "accuracy that the attack takes from everybody's model",
    "attack_success": "share of the attacks that reach their goal",
    "examiner_accuracy": "accuracy of a classifier on what the attacker recovers",
    "retrieval_top1": "share of the published rows that lead to the right private sample",
    "attribute_accuracy": "share of the persons whose sensitive attribute the attacker tells rightly",
    "missed": "share of the harmful batches that raise no alarm",
    "explained_variance": "share of what sets a private input apart from the mean that the attacker recovers",
    "class_recovery": "how well the attacker's pictures show the private class",
}
GUESS = "the best control that knows nothing, or a guess, reaches"
LEAKS, HARMED = "leaks", "can be harmed"
CHANCE_ONLY, IDLE, NO_DATA = "at chance", "no attack works", "not measured"
BADGES = {LEAKS: "s-outside", HARMED: "s-outside", CHANCE_ONLY: "s-undecided"} | {
    IDLE: "s-undecided",
    NO_DATA: "s-unavailable",
}
HELPS = (board_text.BELOW, board_text.OPEN)
WORDS = {
    board_text.BELOW: "it helps",
    board_text.OPEN: "it helps so far, but not every attack has a number",
    board_text.BROKEN: "broken by an attacker who knows it",
    board_text.ABOVE: "it does not help enough",
    board_text.UNKNOWN: "without a number",
}
HARMFUL = ("poisoning", "evasion", "shift")
"""Families of attacks that do not learn anything but spoil something."""
OF_THE_RUN = ("sweep=", "jobs=", "only.", "store=", "seed=")


@dataclass
class Facts:
    """Facts that the records do not hold: the option of the data, the data, and the command that was given."""

    name: str
    data: Data
    command: str = ""


@dataclass(frozen=True)
class Shown:
    """A defense in a block: its worst case, its price, and the command of each of its numbers.

    Attributes:
        place: its number in table and picture.
        kept: utility without a defense less what this one costs with the same attacks and seeds.
        front: no other defense is better in both risk and utility.
        numbers: (attack, risk, command) of everything that it met.
        pictures: (caption, path in the store).
    """

    place: int
    row: Row
    risk: str
    by: str
    utility: str
    price: str
    epsilon: str
    verdict: str
    kept: float | None
    front: bool
    numbers: list[tuple[str, str, str]]
    pictures: list[tuple[str, str]]


@dataclass(frozen=True)
class Block:
    """One family of attacks under one protocol, judged by one metric."""

    section: Section
    metric: str
    family: str
    state: str
    sentences: list[str]
    rows: list[Shown]

    @cached_property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", f"{self.section.slug}-{self.family}-{self.metric}", flags=re.ASCII)

    @property
    def title(self) -> str:
        return f"{self.section.setting.partition('_')[0].capitalize()}: {self.family.replace('_', ' ')}"

    @property
    def place(self) -> str:
        """Return what the attacks see or touch, and the model: two blocks may differ in these alone."""
        surfaces = dict.fromkeys(column.surface for column in self.section.columns if column.metric == self.metric)
        return f"{', '.join(surfaces).replace('_', ' ')} · {self.section.model}"

    @property
    def note(self) -> str:
        """Return what is special about the setting without a defense."""
        return (
            "Without a defense the private data themselves are published." if self.title.startswith("Release") else ""
        )

    @property
    def meaning(self) -> str:
        return MEANING.get(self.metric, "")

    @property
    def shows(self) -> bool:
        """Return whether an attack works, so that defenses can be compared."""
        return self.state in (LEAKS, HARMED)

    @property
    def front(self) -> list[Shown]:
        return [shown for shown in self.rows if shown.front and not shown.row.plain]

    @property
    def helping(self) -> list[Shown]:
        """Return the defenses that leave less than half of the risk above chance, the cheapest first."""
        found = [shown for shown in self.rows if shown.verdict in (WORDS[kind] for kind in HELPS)]
        return sorted(found, key=lambda shown: shown.row.price.mean if shown.row.price else float("inf"))

    @property
    def bare(self) -> Shown | None:
        return next((shown for shown in self.rows if shown.row.plain), None)

    @property
    def bare_risk(self) -> str:
        """Return the worst case without a defense, with its number of seeds."""
        worst = self.section.bare(self.metric)
        return _interval(worst.summary) if worst else ""


@dataclass(frozen=True)
class Page:
    """Everything that the report says."""

    facts: Facts
    audit: Audit
    blocks: list[Block]
    untried: list[tuple[str, list[str]]]
    broken: list[tuple[str, str, str]]
    more: str

    @property
    def played(self) -> int:
        return sum(len(cells) for cells in self._by_state.values())

    @cached_property
    def _by_state(self) -> dict[str, list[Planned]]:
        found: dict[str, list[Planned]] = defaultdict(list)
        for planned in self.audit.cells:
            if record := self.audit.store.sound(planned.cell.key):
                found[record["status"]].append(planned)
        return found


# -- contents ---------------------------------------------------------------------------------------------------------
def contents(out: Path, audit: Audit, facts: Facts) -> Page:
    """Return what the report of ``audit`` says, from the records in the folder ``out``."""
    cells = {planned.cell.key: planned for planned in audit.cells}
    records = [{**record, "sweep": NAME} for record in source.read(out) if record["key"] in cells]
    families = {
        record["config"]["threat"]["name"]: str(record["facts"].get("family") or "attacks") for record in records
    }
    floors = {record["config"]["threat"]["name"]: record["facts"].get("floor") for record in records}
    found = [block for board in boards.build(records) for block in _blocks(board, families, floors, cells)]
    places = ("collaboration", "release", "deployment", "service")
    found.sort(key=lambda block: (*(block.section.setting.startswith(place) for place in places), block.family))
    found.sort(key=lambda block: [not block.section.setting.startswith(place) for place in places])
    broken = []
    for planned in audit.cells:
        record = audit.store.sound(planned.cell.key)
        if record is not None and record["status"] not in FINISHED:
            reason = visible((record["reason"].splitlines() or [""])[-1])
            broken.append((planned.cell.label, f"{record['status']}: {reason}", command([planned])))
    return Page(facts, audit, found, list(_untried(audit)), broken, _more(audit))


def _untried(audit: Audit) -> Iterator[tuple[str, list[str]]]:
    """Yield each reason with the attacks and defenses that were not tried for it."""
    groups: dict[str, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for planned in audit.cells:
        if reason := audit.untried.get(planned.cell.key):
            name = threat_of(planned) + (" (adaptive)" if is_adaptive(planned) else "")
            groups[reason][name][defense_of(planned)] = None
    for reason, threats in groups.items():
        yield reason, [f"{threat} against {', '.join(defenses)}" for threat, defenses in threats.items()]


def _more(audit: Audit) -> str:
    """Return a sentence on how much longer the audit would take."""
    left = [planned for planned in audit.cells if audit.untried.get(planned.cell.key) == NO_TIME]
    if not left:
        return ""
    times = [audit.times.estimate(planned) for planned in left]
    known = [seconds for seconds in times if seconds is not None]
    told = f"; by the cells so far they take about {duration(sum(known))} more in one process" if known else ""
    return f"{len(left)} cells did not fit into the time{told}. The same command goes on with them."


def _blocks(
    board: boards.Board,
    families: Mapping[str, str],
    floors: Mapping[str, Any],
    cells: Mapping[str, Planned],
) -> Iterator[Block]:
    for section in board.sections:
        section = replace(section, chances={**_by_definition(section), **section.chances})
        for metric in section.metrics:
            columns = [column for column in section.columns if column.metric == metric]
            attacks = [column for column in columns if column.control is None]
            family = next((families[column.name] for column in attacks if column.name in families), "attacks")
            rows = _rows(section, metric, columns, cells)
            state, sentences = _said(section, metric, attacks, floors)
            state = HARMED if state == LEAKS and family in HARMFUL else state
            yield Block(section, metric, family, state, sentences, rows)


def _by_definition(section: Section) -> dict[str, float]:
    return {metric: CHANCE[metric] for metric in section.metrics if metric in CHANCE}


def _said(section: Section, metric: str, attacks: Sequence[Column], floors: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the state of a block and the sentences that explain it."""
    plain = section.undefended
    reached = [(plain.cells[c.threat].summary, c) for c in attacks] if plain else []
    measured = [(summary, column) for summary, column in reached if summary]
    if not measured:
        played = plain is not None and any(run.status == "ok" for c in attacks for run in plain.cells[c.threat].runs)
        if played:
            return NO_DATA, [f"Attacks were played, but {metric} has no value for such data: nothing is shown here."]
        ended = [f"{c.threat}: {run.status}" for c in attacks if plain for run in plain.cells[c.threat].runs]
        told = f" ({', '.join(dict.fromkeys(ended))})" if ended else ""
        return NO_DATA, [f"No attack has a number{told}: nothing is shown here."]
    summary, column = max(measured, key=lambda pair: pair[0].mean)
    floor, chance, half = floors.get(column.name), section.chance(metric), board_text.half_way(section, metric)
    told = f"The strongest attack, {column.threat}, reaches {_interval(summary)} without a defense"
    bar = f"an attack counts from {floor['metric']} {floor['at_least']:g}" if floor else ""
    guess = f"{GUESS} {board_text.number(chance)}" if metric in section.chances else ""
    opening = "; ".join(filter(None, [told, guess, bar])) + "."
    if section.bare(metric) is None:
        return IDLE, [opening, "So no attack works here as it should: nothing is shown, of the data or of any defense."]
    if half is None:
        return CHANCE_ONLY, [opening, "That is no better than guessing: nothing is shown, of the data or any defense."]
    sentences = [opening]
    low = summary.mean - (summary.half_width or 0.0)
    if summary.half_width is None:
        sentences.append("This is a single seed: no interval.")
    elif low <= chance:
        sentences.append("The interval reaches down to chance: more seeds would tell.")
    return LEAKS, sentences + _helped(section, metric)


def _helped(section: Section, metric: str) -> list[str]:
    """Return a sentence for each group of defenses."""
    found = board_text.findings(section, metric)[1:]
    if not any(section.met(row, metric) for row in section.rows if not row.plain):
        return ["No defense was tried against it."]
    half = board_text.half_way(section, metric)
    assert half is not None
    mark = f"A defense helps where its worst case is below {board_text.number(half)}, half way from chance."
    groups = [line.partition(": ") for line in found]
    return [mark, *(f"{_capital(WORDS.get(kind, kind))}: {told}" for kind, _, told in groups)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _interval(summary: Summary) -> str:
    seeds = f"{summary.n} seed{'' if summary.n == 1 else 's'}"
    return f"{board_text.interval(summary)} ({seeds})"


def _rows(section: Section, metric: str, columns: Sequence[Column], cells: Mapping[str, Planned]) -> list[Shown]:
    rows = [row for row in section.rows if row.plain or section.met(row, metric)]
    kept = {row.defense: _kept(section, row) for row in rows}
    front = _front(rows, metric, kept)
    worst_bare = section.bare(metric)
    shown = []
    for place, row in enumerate(rows):
        worst = row.worst[metric]
        threats = [found.threat for found in (worst, worst_bare) if found]
        shown.append(
            Shown(
                place=place,
                row=row,
                risk=board_text.interval(worst.summary) if worst else "–",
                by=worst.threat if worst else "",
                utility=board_text.scaled(section, row.utility),
                price="" if row.plain else board_text.price(section, row),
                epsilon=board_text.spent("epsilon", row) if "epsilon" in row.costs else "",
                verdict="no defense" if row.plain else WORDS.get(board_text.verdict(section, row, metric) or "", ""),
                kept=kept[row.defense],
                front=row.defense in front,
                numbers=list(_numbers(row, columns, cells)),
                pictures=list(_pictures(row, threats)),
            )
        )
    return shown


def _kept(section: Section, row: Row) -> float | None:
    plain = section.undefended
    if row.plain or plain is None or plain.utility is None:
        return row.utility.mean if row.plain and row.utility else None
    return plain.utility.mean - row.price.mean if row.price else None


def _front(rows: Iterable[Row], metric: str, kept: Mapping[str, float | None]) -> set[str]:
    """Return the defenses, and no defense, that none other beats in risk and utility at once."""
    points = [
        (row.defense, worst.mean, utility)
        for row in rows
        if (worst := row.worst[metric]) and (utility := kept[row.defense]) is not None
    ]
    return {
        name
        for name, risk, utility in points
        if not any(r <= risk and u >= utility and (r < risk or u > utility) for _, r, u in points)
    }


def _numbers(row: Row, columns: Sequence[Column], cells: Mapping[str, Planned]) -> Iterator[tuple[str, str, str]]:
    for column in columns:
        cell = row.cells[column.threat]
        own = [cells[run.key] for run in cell.runs if run.key in cells]
        if own:
            kind = f" ({column.control} control)" if column.control else ""
            told = board_text.interval(cell.summary) if cell.summary else board_text.state(cell)
            yield column.threat + kind, told, command(own)


def command(cells: Sequence[Planned]) -> str:
    """Return the shell command that plays cells which differ in the seed alone."""
    first = cells[0]
    lines = [line for line in first.overrides if not line.startswith(OF_THE_RUN)]
    lines.sort(key=lambda line: not line.startswith(("threat", "defense")))
    seeds = ",".join(map(str, sorted({planned.cell.config["seed"] for planned in cells})))
    several = ["-m"] if "," in seeds else []
    return shlex.join(["gauntlet", "run", *several, *lines, f"seed={seeds}", *first.searchpath])


def _pictures(row: Row, threats: Sequence[str]) -> Iterator[tuple[str, str]]:
    for threat in threats:
        for name, path in row.pictures.get(threat, {}).items():
            if name != "curves":
                yield f"{threat} against {row.defense}: {name}", path
                return
