"""Boards of a store as Markdown: a pure function of the records, byte-identical when written again.

``boards/README.md`` leads to ``boards/<board>.md``. ``boards/papers.md`` holds the verdict on each paper,
``claims.csv`` every claim with its measured number. The web site, with each board as CSV too, is made by
:mod:`runners.report.site`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runners.claims.claim_evaluation import Answer, evaluate, groups_of
from runners.claims.claims import REPORTED, Paper, load
from runners.report import markdown, output, source, tables
from runners.report.boards import Board
from runners.report.boards import of_records as boards_of
from runners.report.source import Record
from runners.report.strips import strip_path

BOARDS, CLAIMS = "boards", "claims.csv"


@dataclass(frozen=True)
class Contents:
    """Boards of a store, and the papers with the answers to their claims.

    Attributes:
        strips: board -> path of its picture strip in the store, of those that have one.
    """

    boards: list[Board]
    papers: list[tuple[Paper, list[Answer]]]
    strips: dict[str, str]


def contents(store: Path, reported: Path = REPORTED) -> Contents:
    """Return the boards and claims of ``store``; ``reported``: folder of the papers' claims."""
    found = of_records(source.read(store), reported)
    paths = {board.name: strip_path(board.name) for board in found.boards}
    found.strips.update({name: path for name, path in paths.items() if (store / path).is_file()})
    return found


def of_records(records: Sequence[Record], reported: Path = REPORTED) -> Contents:
    """Return the boards and claims of ``records``, which :func:`runners.report.source.compact` returns."""
    return Contents(boards_of(records), evaluate(load(reported), groups_of(records)), {})


def files(shown: Contents) -> dict[str, str]:
    """Return every file: path relative to the store -> content."""
    made = {f"{BOARDS}/{markdown.INDEX}": markdown.index(shown.boards, shown.papers)}
    for board in shown.boards:
        made[f"{BOARDS}/{board.slug}.md"] = markdown.page(board, shown.strips.get(board.name))
    if shown.boards and shown.papers:
        made[f"{BOARDS}/{markdown.PAPERS}"] = markdown.verdicts(shown.papers)
    return made | {CLAIMS: tables.claims(shown.papers)}


def write(store: Path, shown: Contents | None = None) -> list[Path]:
    """Write the boards and claims into ``store``, delete those of earlier runs that are no more, return the paths."""
    made = files(shown or contents(store))
    claims = made.pop(CLAIMS)
    boards = output.write(
        output.own_folder(store, BOARDS), {name.removeprefix(f"{BOARDS}/"): text for name, text in made.items()}
    )
    output.write_one(store / CLAIMS, claims.encode())
    return [*boards, store / CLAIMS]
