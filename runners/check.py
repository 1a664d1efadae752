"""``gauntlet check``: numbers of a store against what papers report and what was accepted; exit code 1 on *outside*."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.errors import GauntletError
from runners import baseline as accepted
from runners.answers import INSIDE, MISSED, NOT_RUN, OUTSIDE, STATES, TESTED, UNAVAILABLE, Answer, evaluate, groups_of
from runners.claims import Paper, load
from runners.records import Store
from runners.sweep import LOG_WIDTH

COLOURS = {INSIDE: "green", OUTSIDE: "bold red", MISSED: "yellow", NOT_RUN: "cyan", UNAVAILABLE: "dim", TESTED: "blue"}


def run(store: Path, *, reported: Path, baseline: Path, scale: str | None, system: str | None) -> int:
    """Print the claims with what was measured, then the accepted numbers (unless ``system`` is given).

    Args:
        scale: only claims and accepted numbers of this scale.
        system: only the claims of this paper, by its number.

    Returns:
        1 when a number is outside, else 0.
    """
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    outside = _claims(console, store, reported, scale, system)
    if system is None:
        outside += accepted.compare(console, store, baseline, scale=scale)
    return 1 if outside else 0


def update(store: Path, baseline: Path, *, scale: str | None) -> int:
    """Accept the store's numbers: write them to ``baseline`` for review."""
    written = accepted.update(store, baseline, scale=scale)
    print(f"{written} numbers written to {baseline}; review them before committing.")
    return 0


def _claims(console: Console, store: Path, reported: Path, scale: str | None, system: str | None) -> int:
    """Print a table for each paper; gives how many claims are outside."""
    papers = [_at_scale(paper, scale) for paper in load(reported, system)]
    if not papers and system is None and not reported.is_dir():
        raise GauntletError(f"There is no folder {reported}; run this in the repository, or name it with --reported.")
    answers = evaluate(papers, groups_of(Store(store).all()))
    for paper, of_paper in answers:
        if of_paper:
            console.print(_table(paper, of_paper))
    counts = Counter(answer.state for _, of_paper in answers for answer in of_paper)
    if counts:
        told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        console.print(f"Claims of papers: {told}.\n", highlight=False)
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
    """``0.951 ± 0.004 (n=3)``: mean, standard deviation and count of seeds."""
    if answer.measured is None:
        return "–"
    spread = "" if answer.sd is None else f" ± {answer.sd:.2g}"
    return f"{answer.measured:.4g}{spread} (n={answer.seeds})"
