"""Boards as Markdown: a page for each board, one for all papers, and the index that leads to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from runners.claims.claim_evaluation import STATES, UNAVAILABLE, Answer
from runners.claims.claims import Paper
from runners.claims.verdicts import verdict_on
from runners.report.board_text import (
    findings,
    left,
    lost_of,
    number,
    price,
    ranking,
    remarks,
    risk,
    scaled,
    spent,
    undefended,
    worst_case,
    worst_of,
)
from runners.report.boards import Board
from runners.report.ranking import headline
from runners.report.sections import Column, Section

LEGEND = """\
## How to read this

* A board shows the results of one sweep, in a section for each *protocol*: setting, dataset, model and scale with their
  parameters. Numbers of different protocols are never averaged.
* Numbers are means over seeds ± half of the 95 % Student-t interval; a single seed has none. Risk is the attack's
  success: **higher is worse** for the defender.
* *Worst case* is the attack of highest risk, over all attacks that the defense met. `≥` before it: some attack has no
  number for this defense yet, so the truth can only be worse. **Bold** is the best defense of a column; `≈` marks those
  that a paired bootstrap over the seeds (95 %) cannot tell from it.
* *Undefended* is the risk of the same attack without a defense, over the same seeds. *Left* is the share of that risk,
  above chance, which the defense leaves.
* *Cost* is the utility lost against no defense with the same attacks and seeds, in points where utility is in per
  cent; below 0 is a gain.
* *Chance* is the risk of the strongest negative control, 0 without one. *Half way* lies in the middle between chance
  and the undefended worst case.
* · adaptive: the adversary knows the defense. Without one there is nothing to know, so where only the plain form was
  played undefended, its run stands in. *No adaptive threat met*: nobody who knows the defense has tried to break it.
* ~~Struck~~ numbers are invalid: the attack does not work here even without a defense, so they prove nothing.
* *not run*: this pair has no record, or threat and defense do not meet. *failed*, *timeout*, *diverged*: a run without
  a number; never counted as a success of the defense.
"""
EMPTY = "No records yet: `gauntlet sweep sweep=demo` makes the first ones.\n"
INDEX, PAPERS = "README.md", "papers.md"


class Ready(str):
    """Text that is Markdown already."""


def escaped(text: str) -> str:
    """Return ``text`` on one line, without raw HTML, links and pictures; emphasis stays, since boards use it."""
    if isinstance(text, Ready):
        return text
    text = " ".join(text.split())
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("](", "]\\(")):
        text = text.replace(plain, entity)
    return text


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose source is aligned as well."""
    texts = [[escaped(text).replace("|", "\\|") for text in line] for line in [head, *lines]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    padded = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in texts]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


# -- index ------------------------------------------------------------------------------------------------------------
def index(boards: Sequence[Board], papers: Sequence[tuple[Paper, Sequence[Answer]]] = ()) -> str:
    """Return the page that leads to every board, with the count of claims that agree and a guide to the numbers."""
    if not boards:
        return f"# Boards\n\n{EMPTY}"
    head = ["table", "setting", "dataset", "scale", "protocols", "attacks", "defenses", "finished cells", "other cells"]
    lines = []
    for board in boards:
        if board.face:
            continue
        named = [", ".join(names) for names in (board.settings, board.datasets, board.scales)]
        sizes = [str(len(found)) for found in (board.sections, board.threats, board.defenses)]
        runs = board.runs
        others = ", ".join(f"{count} {status}" for status, count in sorted(runs.items()) if status != "ok")
        lines.append([Ready(f"[{escaped(board.name)}]({board.slug}.md)"), *named, *sizes, str(runs["ok"]), others])
    sweeps = ["## Tables of sweeps", table(head, lines)] if lines else []
    return "\n\n".join(["# Boards", *_boards(boards), *_papers(papers), *sweeps, LEGEND])


def _boards(boards: Iterable[Board]) -> list[str]:
    """Return a line for each board with a face: its question, who is on the front, and what the best one leaves."""
    head = [
        "board",
        "question",
        "on the front",
        "least worst case",
        "undefended",
        "utility lost",
        "cells",
        "core-hours",
    ]
    lines = []
    for board in boards:
        if board.face is None or board.contest is None:
            continue
        found = headline(board.standings)
        front = ", ".join(one.entrant.defense for one in found.front)
        numbers = ["–"] * 3
        if found.best:
            bare = worst_of(found.bare) if found.bare else "–"
            numbers = [worst_of(found.best), bare, lost_of(board.contest, found.best)]
        link = Ready(f"[{escaped(board.face.title)}]({board.slug}.md)")
        cells = [f"{board.played} of {board.planned}", board.spent.hours]
        lines.append([link, board.face.question, front, *numbers, *cells])
    return [table(head, lines)] if lines else []


def _papers(papers: Sequence[tuple[Paper, Sequence[Answer]]]) -> list[str]:
    if not papers:
        return []
    lines = []
    for paper, answers in papers:
        found = verdict_on(paper, answers)
        counts = Counter(answer.state for answer in answers if answer.claim.kind != "gate")
        told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        lines.append([paper.system, paper.title, found.word, found.told(), told])
    every = f"Their sentences: [{PAPERS}]({PAPERS}). Every claim and gate with its number: [claims.csv](../claims.csv)."
    return ["## Papers", table(["no.", "paper", "verdict", "sentences", "claims"], lines), every]


def verdicts(papers: Sequence[tuple[Paper, Sequence[Answer]]]) -> str:
    """Return a page with the verdict on each paper, and the sentences of its abstract with theirs and their claims."""
    parts = ["# Papers", "Claims and gates with their numbers: [claims.csv](../claims.csv)."]
    for paper, answers in papers:
        found = verdict_on(paper, answers)
        lines = []
        for letter, sentence in paper.abstract.items():
            own = [_state(one) for one in answers if one.claim.sentence == letter]
            lines.append([letter, sentence, found.sentences[letter], "; ".join(own)])
        head = ["", "the abstract, in our words", "verdict", "claims"]
        parts += [f"## {paper.system} {escaped(paper.title)}", f"**{found.word}**", table(head, lines)]
    return "\n\n".join(parts) + "\n"


def _state(one: Answer) -> str:
    return f"{one.claim.id}: {one.state}" + (f" ({one.note})" if one.state == UNAVAILABLE else "")


# -- one board --------------------------------------------------------------------------------------------------------
def page(board: Board, strip: str | None = None) -> str:
    """Return one board as Markdown.

    Args:
        strip: path of the board's picture strip, relative to the store; None where there is none.
    """
    parts = [*_faced(board), table(*overview(board.sections))]
    for section in board.sections:
        parts += _section(section)
    if strip:
        parts += ["## Pictures", f"![Results of the attacks of {escaped(board.name)} against each defense](../{strip})"]
    return "\n\n".join([*parts, f"[How to read this, and all boards]({INDEX})"]) + "\n"


def _faced(board: Board) -> list[str]:
    """Return the head of a page: what the board asks, its ranking and its protocol, or the name of a sweep alone."""
    if board.face is None or board.contest is None:
        return [f"# {escaped(board.name)}"]
    face, found = board.face, board.contest
    over = f"{len(found.attacks)} attacks and {len(found.protocols)} protocols"
    cells = f"{board.progress}; seeds: {escaped(face.seeds)}."
    return [
        f"# {escaped(face.title)}",
        f"**{escaped(face.question)}** `{board.name}`, version {face.version}. "
        f"Ranked by the worst {face.headline} over {over}. {cells}",
        table(*ranking(found, board.standings)),
        f"Protocol: {escaped(face.protocol)}",
        f"To play it: `gauntlet sweep sweep=boards/{board.name}`; for other threats or a limit of utility: "
        f"`gauntlet board {board.name} --threats ... --max-utility-loss ...`.",
        "## Protocols",
    ]


def overview(sections: Iterable[Section]) -> tuple[list[str], list[list[str]]]:
    """Return a line for each protocol and risk metric: the worst case undefended and under the best defense."""
    head = ["setting", "dataset", "model", "scale", "risk", "strongest attack undefended", "its risk"]
    head += ["best defense", "its worst case", "undefended", "its cost"]
    lines = []
    for section in sections:
        for metric in section.metrics:
            bare, best = section.bare(metric), section.best(metric)
            attack = [bare.threat, number(bare.mean)] if bare else ["none known to work", "–"]
            worst = best.worst[metric] if best else None
            answer = ["–"] * 4
            if best and worst:
                shown = f"{number(worst.mean)} ({worst.threat})"
                answer = [best.defense, shown, undefended(best, metric), price(section, best)]
            lines.append([*section.place, metric, *attack, *answer])
    return head, lines


def _section(section: Section) -> list[str]:
    parts = [f"## {escaped(section.title)}", *filter(None, [_reading(section)]), table(*_defenses(section))]
    return [*parts, *_every_threat(section), *_galleries(section)]


def _reading(section: Section) -> str:
    """Return the findings for each risk metric as a list."""
    items = []
    for metric in section.metrics:
        opening, *rest = map(escaped, findings(section, metric))
        items += [f"* **{escaped(metric)}**: {opening}", *(f"  * {finding}" for finding in rest)]
    return "\n".join(items)


def _defenses(section: Section) -> tuple[list[str], list[list[str]]]:
    kinds = [kind for kind in ("epsilon", "bytes_sent", "seconds") if any(kind in row.costs for row in section.rows)]
    names = {"epsilon": "ε", "bytes_sent": "sent", "seconds": "seconds"}
    unit, lost_in = (f"{section.utility} (%)", "points") if section.fraction else (section.utility, section.utility)
    head = ["defense", unit, f"cost ({lost_in})"]
    for metric in section.metrics:
        head += [f"worst case {metric}", "undefended", "left"]
    head += [*(names[kind] for kind in kinds), "seeds", "remarks"]
    lines = []
    for row in section.rows:
        line = [row.defense, scaled(section, row.utility), price(section, row)]
        for metric in section.metrics:
            line += [worst_case(section, row, metric), undefended(row, metric), left(row, metric)]
        line += [spent(kind, row) for kind in kinds]
        lines.append([*line, str(row.seeds), remarks(row)])
    return head, lines


def _every_threat(section: Section) -> list[str]:
    head = ["defense", *(_heading(column) for column in section.columns)]
    least = {column.threat: _least(section, column) for column in section.columns}
    lines = [
        [row.defense, *(risk(row.cells[c.threat], c, bold=row.defense in least[c.threat]) for c in section.columns)]
        for row in section.rows
    ]
    invalid = [f"* ~~{c.threat}~~ invalid: {c.invalid}." for c in section.columns if c.invalid]
    return ["### Every threat", table(head, lines), *(["\n".join(map(escaped, invalid))] if invalid else [])]


def _least(section: Section, column: Column) -> set[str]:
    """Return the defenses with the least risk of an attack that works here, as shown."""
    if not column.works:
        return set()
    means = {r.defense: number(s.mean) for r in section.rows if not r.plain and (s := r.cells[column.threat].summary)}
    least = min(means.values(), key=float, default=None)
    return {defense for defense, mean in means.items() if mean == least}


def _heading(column: Column) -> str:
    role = f"{column.control} control, " if column.control else "unranked, " if column.unranked else ""
    return f"{column.threat} ({role}{column.metric})"


def _galleries(section: Section) -> list[str]:
    """Return a fold-out for every threat that left pictures: the grids of each defense's lowest seed."""
    return [gallery for column in section.columns if (gallery := _gallery(section, column))]


def _gallery(section: Section, column: Column) -> str:
    shown = []
    for row in section.rows:
        for name, path in sorted(row.pictures.get(column.threat, {}).items()):
            words = escaped(f"{column.threat} against {row.defense}: {name}")
            shown.append(f"**{escaped(row.defense)}**\n\n![{words}](../{path})")
    if not shown:
        return ""
    return "\n\n".join([f"<details><summary>Pictures: {escaped(column.threat)}</summary>", *shown, "</details>"])
