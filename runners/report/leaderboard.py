"""Leaderboards: a pure function of the records (and of the catalogue), byte-identical when written again.

One board for each setting, dataset, model and scale, each as Markdown, CSV and LaTeX. ``README.md`` leads to them
with an overview; ``index.html`` begins the web site.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runners.claims.claim_evaluation import STATES, evaluate, groups_of
from runners.claims.claims import REPORTED, load
from runners.config.catalogue import options
from runners.config.pairs import derive
from runners.report import latex
from runners.report.board_text import lost, number, price, reading, remarks, risk, scaled, spent, state, worst_case
from runners.report.boards import Board, Column, build
from runners.report.site import pages
from runners.report.site.model import Answered, Site, blocks
from runners.report.statistics import Summary
from runners.store.table import frame_of, read_all

LEGEND = """\
## How to read this

* Numbers are means over seeds ± half of the 95 % Student-t interval; a single seed has none. Risk is the attack's
  success: **higher is worse** for the defender.
* *Worst case* is the strongest valid attack that is no control. `≥` before it: some valid attack has no number for this
  defense yet, so the truth can only be worse. **Bold** is the best defense of a column; `≈` marks those that paired
  t-tests over the seeds (Holm's correction, 5 %) cannot tell from it.
* *Cost* is the utility lost against no defense with the same attacks and seeds, in points where utility is in per
  cent; below 0 is a gain.
* *Half way* lies in the middle between the strongest negative control (0 without one) and the undefended worst case.
* · adaptive: the adversary knows the defense. *No adaptive threat met*: a worst case that nobody tried hard to raise.
* ~~Struck~~ numbers are invalid: the attack does not work here even without a defense, so they prove nothing.
* *not run*: this pair has no record, or threat and defense do not meet. *failed*, *timeout*, *diverged*: a run without
  a number; never counted as a success of the defense.
"""
EMPTY = "No records yet: `gauntlet sweep sweep=demo` makes the first ones.\n"
Table = tuple[list[str], list[list[str]]]


KINDS = ("md", "csv", "tex", "html", "js", "css", "txt")


def write(store: Path) -> list[Path]:
    """Write ``<store>/leaderboard`` and give the paths of its files; it holds nothing but what the records say."""
    return pages.write(Path(store) / "leaderboard", files(read_all(Path(store)), _spelled(Path(store))), KINDS)


def files(records: list[dict[str, Any]], store: str, reported: Path = REPORTED) -> dict[str, str]:
    """Every file of the leaderboard of ``records``: path -> content.

    ``README.md``, ``overview.csv``, ``matrix.csv`` (what became of every pair), ``claims.csv``, each board as Markdown,
    CSV and LaTeX (``boards/``), and the web site, which begins at ``index.html``.

    Args:
        store: how shell commands on the pages name the store.
        reported: folder of the papers' claims.
    """
    boards = build(frame_of(records, ("utility", "risk", "cost", "media")))
    matrix = derive()
    papers = [Answered(paper, answers) for paper, answers in evaluate(load(reported), groups_of(records))]
    described = {option.name: option.description for option in options("defense")}
    site = Site(boards, blocks(boards, matrix), papers, described)
    made = {"README.md": render(boards, papers), "overview.csv": _csv(*_overview(boards))}
    made |= {"matrix.csv": _csv(*_pairs(site)), "claims.csv": _csv(*_claims(papers))}
    made |= {f"boards/{board.slug}.md": page(board) for board in boards}
    made |= {f"boards/{board.slug}.csv": _csv(*_flat(board)) for board in boards}
    made |= {f"boards/{board.slug}.tex": latex.table(board) for board in boards}
    return made | pages.render(site, store)


def _spelled(store: Path) -> str:
    """A store as one types it: a path outside the current folder by its name alone."""
    return store.name if store.is_absolute() else store.as_posix()


def render(boards: Sequence[Board], papers: Sequence[Answered] = ()) -> str:
    """The front page as Markdown: what was best where, with a link to each board, and the papers."""
    if not boards:
        return f"# Leaderboard\n\n{EMPTY}"
    parts = ["# Leaderboard", "The same with filters, plots and a page for each defense: [index.html](index.html)."]
    head, lines = _overview(boards)
    slugs = [board.slug for board in boards for _ in board.metrics]
    linked = [[f"[{line[0]}](boards/{slug}.md)", *line[1:]] for slug, line in zip(slugs, lines, strict=True)]
    return "\n\n".join([*parts, _markdown(head, linked), *_papers(papers), LEGEND])


def page(board: Board) -> str:
    """One board as Markdown, with its pictures."""
    parts = [f"# {board.title}", *filter(None, [reading(board)]), _markdown(*_main(board))]
    parts += [*_every_threat(board), *_galleries(board), "[How to read this, and all boards](../README.md)"]
    return "\n\n".join(parts) + "\n"


# -- tables -----------------------------------------------------------------------------------------------------------
def _overview(boards: Iterable[Board]) -> Table:
    head = ["setting", "dataset", "model", "scale", "risk", "strongest attack undefended", "its risk"]
    head += ["best defense", "its worst case", "its cost"]
    lines = []
    for board in boards:
        for metric in board.metrics:
            bare = board.undefended.worst[metric] if board.undefended else None
            best = board.best(metric)
            attack = [bare.threat, number(bare.mean)] if bare else ["none known to work", "–"]
            worst = best.worst[metric] if best else None
            answer = [best.defense, number(worst.mean), price(board, best)] if best and worst else ["–"] * 3
            lines.append([*board.place, metric, *attack, *answer])
    return head, lines


def _papers(papers: Sequence[Answered]) -> list[str]:
    """How many claims of each paper agree; every claim is in ``claims.csv``."""
    if not papers:
        return []
    counts = [Counter(answer.state for answer in one.answers) for one in papers]
    lines = [
        [one.paper.system, one.paper.title, *(str(count[state]) for state in STATES)]
        for one, count in zip(papers, counts, strict=True)
    ]
    return ["## Papers: claimed and measured", _markdown(["no.", "paper", *STATES], lines)]


def _claims(papers: Iterable[Answered]) -> Table:
    head = ["system", "claim", "text", "where", "provenance", "scale", "metric", "claimed", "measured", "sd", "seeds"]
    lines = []
    for one in papers:
        for answer in one.answers:
            claim = answer.claim
            numbers = ["" if n is None else f"{n:.6g}" for n in (answer.measured, answer.sd)]
            line = [one.paper.system, claim.id, claim.text, claim.where, claim.provenance, claim.scale or ""]
            line += [claim.metric or "", claim.wanted(), *numbers, str(answer.seeds), answer.state, answer.note]
            lines.append(line)
    return [*head, "state", "note"], lines


def _pairs(site: Site) -> Table:
    """A line for each threat and defense: the worst number in each dataset and scale, or why there is none."""
    head = ["setting", "surface", "threat", "control", "defense", "dataset", "scale", "model", "parameters"]
    head += ["metric", "risk", "undefended", "left", "state", "reason"]
    lines = []
    for block in site.blocks:
        for pair in block.pairs.values():
            attack = pair.attack
            start = [block.setting, block.surface, attack.label, attack.control or "", pair.defense]
            if not pair.entries:
                lines.append([*start, *[""] * 8, pair.state, pair.refused or ""])
            for one in pair.entries:
                place = [one.board.dataset, one.board.scale, one.board.model, one.row.parameters, one.column.metric]
                risk = one.cell.summary.mean if one.cell.summary else None
                numbers = ["" if n is None else f"{n:.6g}" for n in (risk, one.undefended, one.remaining)]
                lines.append([*start, *place, *numbers, one.state, one.reason])
    return head, lines


def _main(board: Board) -> Table:
    kinds = [kind for kind in ("epsilon", "bytes_sent", "seconds") if any(kind in row.costs for row in board.rows)]
    names = {"epsilon": "ε", "bytes_sent": "sent", "seconds": "seconds"}
    unit, lost_in = (f"{board.utility} (%)", "points") if board.fraction else (board.utility, board.utility)
    head = ["defense", unit, f"cost ({lost_in})"]
    head += [f"worst case {metric}" for metric in board.metrics]
    head += [*(names[kind] for kind in kinds), "seeds", "remarks"]
    lines = []
    for row in board.rows:
        line = [row.defense, scaled(board, row.utility), price(board, row)]
        line += [worst_case(board, row, metric) for metric in board.metrics]
        line += [spent(kind, row) for kind in kinds]
        lines.append([*line, str(row.seeds), remarks(row)])
    return head, lines


def _every_threat(board: Board) -> list[str]:
    head = ["defense", *(_heading(column) for column in board.columns)]
    least = {column.threat: _least(board, column) for column in board.columns}
    lines = [
        [row.defense, *(risk(row.cells[c.threat], c, bold=row.defense in least[c.threat]) for c in board.columns)]
        for row in board.rows
    ]
    invalid = [f"* ~~{column.threat}~~ invalid: {column.invalid}." for column in board.columns if column.invalid]
    return ["## Every threat", _markdown(head, lines), *(["\n".join(invalid)] if invalid else [])]


def _flat(board: Board) -> Table:
    """Everything of a board with one number a field, for spreadsheets; validity is spelled out in every cell."""
    kinds = sorted({kind for row in board.rows for kind in row.costs})
    head = ["defense", *_pair(board.utility), *_pair("utility_lost")]
    for metric in board.metrics:
        head += [f"worst {metric}", f"worst {metric} by", f"worst {metric} complete"]
    head += ["met_adaptive", *kinds, "seeds", "lost"]
    for column in board.columns:
        head += [*_pair(_heading(column)), f"{_heading(column)} status"]
    lines = []
    for row in board.rows:
        line = [row.defense, *_values(row.utility), *_values(row.price)]
        for metric in board.metrics:
            worst = row.worst[metric]
            line += [f"{worst.mean:.6g}", worst.threat, _yes(worst.complete)] if worst else ["", "", ""]
        line += [_yes(row.met_adaptive), *(f"{row.costs[k]:.6g}" if k in row.costs else "" for k in kinds)]
        line += [str(row.seeds), lost(row)]
        for column in board.columns:
            one = row.cells[column.threat]
            status = f"invalid: {column.invalid}" if column.invalid and one.risk else "ok" if one.risk else state(one)
            line += [*_values(one.summary), status]
        lines.append(line)
    return head, lines


def _least(board: Board, column: Column) -> set[str]:
    """The defenses with the least risk of a valid attack, as shown."""
    if column.control or column.invalid:
        return set()
    means = {r.defense: number(s.mean) for r in board.rows if not r.plain and (s := r.cells[column.threat].summary)}
    least = min(means.values(), key=float, default=None)
    return {defense for defense, mean in means.items() if mean == least}


def _heading(column: Column) -> str:
    control = f"{column.control} control, " if column.control else ""
    return f"{column.threat} ({control}{column.metric})"


def _pair(name: str) -> list[str]:
    return [name, f"{name} ±"]


def _values(summary: Summary | None) -> list[str]:
    if summary is None:
        return ["", ""]
    return [f"{summary.mean:.6g}", "" if summary.half_width is None else f"{summary.half_width:.6g}"]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# -- pictures ---------------------------------------------------------------------------------------------------------
def _galleries(board: Board) -> list[str]:
    """A fold-out for every threat that left pictures: the grids of each defense's lowest seed."""
    return [gallery for column in board.columns if (gallery := _gallery(board, column))]


def _gallery(board: Board, column: Column) -> str:
    shown = [
        f"**{row.defense}**\n\n![{column.threat} against {row.defense}: {name}](../../{path})"
        for row in board.rows
        for name, path in sorted(row.pictures.get(column.threat, {}).items())
    ]
    if not shown:
        return ""
    return "\n\n".join([f"<details><summary>Pictures: {column.threat}</summary>", *shown, "</details>"])


# -- formats ----------------------------------------------------------------------------------------------------------
def _markdown(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table whose source is aligned as well."""
    texts = [[text.replace("|", "\\|") for text in line] for line in [head, *lines]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    padded = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in texts]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _csv(head: list[str], lines: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([head, *lines])
    return buffer.getvalue()
