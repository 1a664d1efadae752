"""Boards for a terminal: the sentences and the few columns that fit, never cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runners.config.faces import Face
from runners.report.board_text import findings, interval, left, price, ranking, remarks, scaled, spent
from runners.report.boards import Board
from runners.report.markdown import EMPTY
from runners.report.ranking import Standing
from runners.report.sections import Row, Section
from runners.store.gate import visible

WIDE = 100
"""Characters of a line in which a ranking has room for all columns."""


def show(console: Console, boards: Iterable[Board]) -> None:
    """Print every board: its findings, and a line for each defense."""
    shown = list(boards)
    if not shown:
        console.print(EMPTY, end="")
    for board in shown:
        for section in board.sections:
            console.print()
            for part in _section(board, section):
                console.print(part)


def _section(board: Board, section: Section) -> Iterator[RenderableType]:
    yield Text(visible(f"{board.name}: {section.title}"), style="bold")
    yield Padding(_text("\n".join(_findings(section))), (0, 0, 0, 1))
    unit, lost_in = (f"{section.utility} %", "points") if section.fraction else (section.utility, section.utility)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    worst = [head for metric in section.metrics for head in (f"worst {metric}", "left")]
    for head in ("defense", unit, f"cost ({lost_in})", *worst, "by"):
        table.add_column(_text(head), overflow="fold")
    for row in section.rows:
        cells = [_name(row), scaled(section, row.utility), price(section, row)]
        for metric in section.metrics:
            found = row.worst[metric]
            cells += [interval(found.summary) if found else "–", left(row, metric)]
        table.add_row(*map(_text, (*cells, _attackers(section, row))))
    yield table


def _text(text: str) -> Text:
    """Return ``text`` as it is, with neither rich's markup nor a terminal's control characters obeyed."""
    return Text("\n".join(map(visible, text.split("\n"))))


def _findings(section: Section) -> Iterator[str]:
    for metric in section.metrics:
        opening, *rest = findings(section, metric)
        yield f"* {metric}: {opening}"
        yield from (f"  * {finding}" for finding in rest)


def _name(row: Row) -> str:
    epsilon = f"ε = {spent('epsilon', row)}" if "epsilon" in row.costs else ""
    return "\n".join(filter(None, [row.defense, epsilon, remarks(row)]))


def _attackers(section: Section, row: Row) -> str:
    return "\n".join(worst.threat for metric in section.metrics if (worst := row.worst[metric]))


def show_faces(console: Console, faces: Mapping[str, Face]) -> None:
    """Print the boards with their questions."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("board", "question", "ranked by"):
        table.add_column(head, overflow="fold")
    for name, face in faces.items():
        table.add_row(name, _text(face.question), face.headline)
    console.print(table)


def show_ranking(console: Console, board: Board, standings: Sequence[Standing]) -> None:
    """Print the ranking of a board that has a face."""
    assert board.face is not None and board.contest is not None
    console.print(_text(f"{board.face.title}: {board.face.question}"), style="bold")
    head, lines = ranking(board.contest, standings)
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    for row in rows:
        row["by"] = "\n".join(dict.fromkeys((row["by"], row["under"])))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    hidden = {"under"} if console.width >= WIDE else {"under", "by", "undefended", "left"}
    shown = [name for name in head if name not in hidden]
    least = {"by": 26, "defense": 26} if "by" in shown else {}  # the two that may take several lines
    for name in shown:
        told = _text(name.replace(" ", "\n"))
        table.add_column(told, overflow="fold", no_wrap=name not in least, min_width=least.get(name))
    for row in rows:
        table.add_row(*(_text(row[name]) for name in shown))
    console.print(table)
    console.print(
        f"{board.progress}. ≈ cannot be told from the best; ≥ some attacks "
        "have no number yet; front: nobody has both less risk and less loss.",
        highlight=False,
    )
