"""``gauntlet check``: numbers of a store against what papers report and what was accepted; exit code 1 on *outside*.

It also lists components whose source has changed while their ``VERSION`` has not: their records may be out of date
although their keys are current.
"""

from __future__ import annotations

import sys
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
    INSIDE,
    MISSED,
    NOT_RUN,
    OUTSIDE,
    STATES,
    TESTED,
    UNAVAILABLE,
    Answer,
    evaluate,
    groups_of,
)
from runners.claims.claims import Paper, load
from runners.store.parts import PerCell
from runners.store.records import Store
from runners.store.staleness import edited, moved_on, unknown_sources
from runners.store.table import READ, frame_of
from runners.sweep.sweep import LOG_WIDTH

COLOURS = {INSIDE: "green", OUTSIDE: "bold red", MISSED: "yellow", NOT_RUN: "cyan", UNAVAILABLE: "dim", TESTED: "blue"}
Records = list[dict[str, Any]]


def run(store: Path, *, reported: Path, baseline: Path, scale: str | None, system: str | None) -> int:
    """Print the claims with the measured numbers, then (unless ``system`` is given) accepted numbers and edited code.

    Args:
        scale: only claims and accepted numbers of this scale.
        system: only the claims of this paper, by its number.

    Returns:
        1 when a number is outside, else 0.
    """
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    records = list(Store(store).all(*READ, "versions"))
    outside = _claims(console, records, reported, scale, system)
    if system is None:
        outside += _accepted(console, records, baseline, scale)
        _sources(console, records)
    return 1 if outside else 0


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
    """Print a table for each paper, and return how many claims are outside."""
    if not reported.is_dir():
        raise GauntletError(f"There is no folder {reported}; run this in the repository, or name it with --reported.")
    papers = [_at_scale(paper, scale) for paper in load(reported, system)]
    answers = evaluate(papers, groups_of(records))
    for paper, of_paper in answers:
        if of_paper:
            console.print(_table(paper, of_paper))
    counts = Counter(answer.state for _, of_paper in answers for answer in of_paper)
    console.print(f"Claims of papers: {_counted(counts)}.", highlight=False)
    return counts[OUTSIDE]


def _at_scale(paper: Paper, scale: str | None) -> Paper:
    kept = tuple(claim for claim in paper.claims if scale is None or claim.scale == scale)
    return paper.model_copy(update={"claims": kept})


def _table(paper: Paper, answers: list[Answer]) -> Table:
    title = f"{paper.system} {paper.title} ({paper.authors} {paper.year})"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("claim", "where", "reported", "measured", "state"):
        table.add_column(name, overflow="fold")
    for one in answers:
        claim = one.claim
        state = f"[{COLOURS[one.state]}]{one.state}[/]" + (f"\n{escape(one.note)}" if one.note else "")
        source = f"{claim.where} ({claim.provenance})"
        table.add_row(f"[bold]{claim.id}[/]", escape(source), claim.wanted(), measured(one), state)
    return table


def measured(answer: Answer) -> str:
    """Return mean, standard deviation and count of seeds as text: ``0.951 ± 0.004 (n=3)``."""
    if answer.measured is None:
        return "–"
    spread = "" if answer.sd is None else f" ± {answer.sd:.2g}"
    return f"{answer.measured:.4g}{spread} (n={answer.seeds})"


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
