"""``gauntlet check``: numbers of a store against what papers report and what was accepted.

It fails on claims that are outside, vacuous or ambiguous, and on accepted numbers that drifted.

It also lists components whose source has changed while their ``VERSION`` has not: their records may be out of date
although their keys are current.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.errors import GauntletError
from runners.claims import baseline as accepted
from runners.claims.baseline import Verdict
from runners.claims.claim_evaluation import (
    FAULTS,
    INSIDE,
    MISSED,
    NOT_RUN,
    OUTSIDE,
    STATES,
    TESTED,
    UNAVAILABLE,
    UNDECIDED,
    Answer,
    evaluate,
    groups_of,
    in_order,
    measured,
)
from runners.claims.claims import Paper, load
from runners.claims.verdicts import verdict_on
from runners.cli import streams
from runners.store.parts import PerCell
from runners.store.records import Store
from runners.store.staleness import edited, moved_on, unknown_sources
from runners.store.table import READ, frame_of

COLOURS = dict.fromkeys(FAULTS, "bold red") | {INSIDE: "green", UNDECIDED: "magenta", MISSED: "yellow"}
COLOURS |= {NOT_RUN: "cyan", UNAVAILABLE: "dim", TESTED: "blue"}
Records = list[dict[str, Any]]


def run(store: Path, *, reported: Path, baseline: Path, scale: str | None, system: str | None) -> int:
    """Print the claims with the measured numbers and a verdict on each paper.

    Unless ``system`` is given, accepted numbers and edited code follow.

    Args:
        scale: only claims and accepted numbers of this scale.
        system: only the claims of this paper, by its number.

    Returns:
        1 when a claim is at fault or an accepted number drifted, else 0.
    """
    console = streams.console()
    records = list(Store(store).all(*READ, "versions"))
    faults = _claims(console, records, reported, scale, system)
    if system is None:
        faults += _accepted(console, records, baseline, scale)
        _sources(console, records)
    return 1 if faults else 0


def update(store: Path, baseline: Path, *, scale: str | None) -> int:
    """Accept the store's numbers: write them to ``baseline`` for review."""
    measured = _numbers(list(Store(store).all(*READ)))
    for path in accepted.write(baseline, measured, scale):
        print(path)
    print(
        f"Review these before committing: they are what `gauntlet check` defends from now on ({len(measured)} numbers)."
    )
    return 0


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none"


# -- claims of papers -------------------------------------------------------------------------------------------------
def _claims(console: Console, records: Records, reported: Path, scale: str | None, system: str | None) -> int:
    """Print a table for each paper, counts and verdicts, and return how many claims are at fault."""
    if not reported.is_dir():
        raise GauntletError(f"There is no folder {reported}; run this in the repository, or name it with --reported.")
    answers = evaluate(load(reported, system), groups_of(records))
    shown = [(paper, [one for one in of_paper if scale in (None, one.claim.scale)]) for paper, of_paper in answers]
    for paper, of_paper in shown:
        if of_paper:
            console.print(_table(paper, of_paper))
    if any(paper.abstract for paper, _ in answers):
        console.print(_verdicts(answers))
    counts = Counter(one.state for _, of_paper in shown for one in of_paper)
    console.print(f"Claims and gates: {_counted(counts)}.", highlight=False)
    return sum(counts[state] for state in FAULTS)


def _table(paper: Paper, answers: list[Answer]) -> Table:
    title = f"{paper.system} {paper.title} ({paper.authors} {paper.year})"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("claim", "where", "wanted", "measured", "state"):
        table.add_column(name, overflow="fold")
    ours = False
    for one in in_order(answers):
        claim = one.claim
        if claim.kind == "gate" and not ours:
            table.add_section()
        ours = claim.kind == "gate"
        state = f"[{COLOURS[one.state]}]{one.state}[/]" + (f"\n{escape(one.note)}" if one.note else "")
        source = f"{claim.where} ({claim.kind})"
        table.add_row(f"[bold]{claim.id}[/]", escape(source), claim.wanted(), measured(one), state)
    return table


def _verdicts(answers: Iterable[tuple[Paper, list[Answer]]]) -> Table:
    table = Table(title="Verdicts on the abstracts", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("paper", "verdict", "sentences"):
        table.add_column(name, overflow="fold")
    for paper, of_paper in answers:
        found = verdict_on(paper, of_paper)
        table.add_row(f"{paper.system} {escape(paper.title)}", found.word, found.told())
    return table


# -- accepted numbers -------------------------------------------------------------------------------------------------
def _numbers(records: Records) -> list[accepted.Number]:
    return list(
        accepted.numbers(frame_of(records, ["utility"]), {record["key"]: record["config"] for record in records})
    )


def _accepted(console: Console, records: Records, baseline: Path, scale: str | None) -> int:
    """Print the accepted numbers that drifted, and the counts; return how many are outside."""
    known = [number for number in accepted.read(baseline) if number.label.startswith(f"{scale} / " if scale else "")]
    measured = _numbers(records)
    verdicts = accepted.compare(known, measured)
    drifted = [verdict for verdict in verdicts if verdict.state == OUTSIDE]
    if drifted:
        console.print(_drifts(drifted))
    console.print(f"Accepted numbers: {_counted(Counter(verdict.state for verdict in verdicts))}.", highlight=False)
    if new := {(n.cell, n.metric) for n in measured} - {(n.cell, n.metric) for n in known}:
        console.print(f"{len(new)} measured numbers are not among the accepted ones.", highlight=False)
    return len(drifted)


def _drifts(drifted: Iterable[Verdict]) -> Table:
    table = Table(title="Drifted", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("cell", "metric", "accepted", "measured"):
        table.add_column(name, overflow="fold")
    for one in drifted:
        number = one.accepted
        spread = f"{number.mean:.4g} ± {number.sd:.2g} (n={number.n})"
        table.add_row(escape(number.label), number.metric, spread, f"{one.measured:.4g}")
    return table


# -- sources ----------------------------------------------------------------------------------------------------------
def _sources(console: Console, records: Records) -> None:
    """Print the components whose code differs from the code that made the records."""
    changed, stale = Counter[str](), defaultdict[str, Counter[str]](Counter)
    moved, counts, one = PerCell(moved_on), Counter[Any](), {}
    for record in records:
        made_by = id(record["versions"]), *(id(part) for name, part in record["config"].items() if name != "seed")
        counts[made_by] += 1
        one[made_by] = record
        for component, then, now in moved(record["config"]):
            stale[component][f"{then} → {now}"] += 1
    for made_by, count in counts.items():
        for component, _, _ in edited(one[made_by]):
            changed[component] += count
    for component, moves in sorted(stale.items()):
        told = ", ".join(f"{move} ({count} records)" for move, count in sorted(moves.items()))
        console.print(f"moved on: {component}: {told}", highlight=False, soft_wrap=True)
    for component, count in sorted(changed.items()):
        console.print(f"source changed, VERSION not: {component} ({count} records)", highlight=False, soft_wrap=True)
    if unknown := sum(map(unknown_sources, records)):
        console.print(f"{unknown} records hold no digest of the source of one component or more.", highlight=False)
    if changed:
        console.print(
            "If such a change alters numbers, raise the VERSION and run the sweeps again; if not, nothing is due.",
            highlight=False,
        )
