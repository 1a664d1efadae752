"""Leaderboards for a terminal: the sentences and the few columns that fit, never cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runners.report.board_text import interval, price, reading, remarks, scaled, spent
from runners.report.boards import Board, Row, build
from runners.report.leaderboard import EMPTY
from runners.store.table import load


def show(console: Console, store: Path) -> None:
    """Print every board of the store: what it says, and a line for each defense."""
    boards = build(load(store))
    if not boards:
        console.print(EMPTY, end="")
    for board in boards:
        for part in _board(board):
            console.print(part)


def _board(board: Board) -> Iterator[RenderableType]:
    yield Text(f"\n{board.title}", style="bold")
    yield Padding(Text(re.sub(r"\*\*(.*?)\*\*", r"\1", reading(board))), (0, 0, 0, 1))
    unit, lost_in = (f"{board.utility} %", "points") if board.fraction else (board.utility, board.utility)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("defense", unit, f"cost ({lost_in})", *(f"worst {metric}" for metric in board.metrics), "by"):
        table.add_column(head, overflow="fold")
    for row in board.rows:
        worst = [interval(w.cell.summary) if (w := row.worst[metric]) else "–" for metric in board.metrics]
        table.add_row(_name(row), scaled(board, row.utility), price(board, row), *worst, _attackers(board, row))
    yield table


def _name(row: Row) -> str:
    epsilon = f"ε = {spent('epsilon', row)}" if "epsilon" in row.costs else ""
    return "\n".join(filter(None, [row.defense, epsilon, remarks(row)]))


def _attackers(board: Board, row: Row) -> str:
    return "\n".join(worst.threat for metric in board.metrics if (worst := row.worst[metric]))
