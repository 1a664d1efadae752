"""Tables as CSV: one number a field, for spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runners.claims.claim_evaluation import Answer, in_order
from runners.claims.claims import Paper
from runners.report.board_text import lost, state
from runners.report.boards import Board
from runners.report.ranking import Standing
from runners.report.sections import Column, Row, Section
from runners.report.statistics import Summary
from runners.store.parts import unevaluated

if TYPE_CHECKING:
    import pandas as pd

HEAD = [
    *("setting", "dataset", "model", "scale", "defense", "threat", "control", "adaptive", "metric"),
    *("risk", "risk ±", "seeds", "undefended", "left", "worst case", "status", "lost"),
    *("utility metric", "utility", "utility ±", "utility lost", "utility lost ±"),
]


def text(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV. A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([unevaluated(field) for field in line] for line in [head, *lines])
    return buffer.getvalue()


def frame(shown: Board) -> pd.DataFrame:
    """Return a board as a DataFrame with the columns of its CSV."""
    return _frame(board(shown))


def _frame(text: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def board(shown: Board) -> str:
    """Return a board as CSV: a line for each defense and threat under each protocol."""
    costs = sorted({kind for section in shown.sections for row in section.rows for kind in row.costs})
    lines = [
        [*section.place, *_cell(section, row, column), *(_number(row.costs.get(kind)) for kind in costs)]
        for section in shown.sections
        for row in section.rows
        for column in section.columns
    ]
    return text([*HEAD, *(f"cost {kind}" for kind in costs)], lines)


def _cell(section: Section, row: Row, column: Column) -> Iterator[str]:
    cell, worst = row.cells[column.threat], row.worst.get(column.metric)
    yield from (row.defense, column.threat, column.control or "", _yes(column.adaptive), column.metric)
    yield from (*_values(cell.summary), str(len(cell.risk)))
    yield from (_number(cell.comparison.bare), _number(cell.comparison.share))
    is_worst = column.counts and worst is not None and worst.threat == column.threat
    yield "" if not is_worst else "yes" if worst and worst.complete else "yes, of those met"
    yield f"invalid: {column.invalid}" if column.invalid and cell.risk else "ok" if cell.risk else state(cell)
    yield lost(cell)
    yield from (section.utility, *_values(row.utility), *_values(row.price))


RANKING = [
    *("place", "defense", "kind", "worst case", "±", "threat", "protocol", "undefended", "left"),
    *("utility lost", "utility lost ±", "complete", "affordable", "tied", "front"),
]


def ranking(standings: Iterable[Standing]) -> str:
    """Return the ranking of a board as CSV."""
    lines = []
    for one in standings:
        met, row = one.met, one.entrant
        line = [str(one.place or ""), row.defense, row.kind, _number(one.worst), _number(met.half if met else None)]
        line += [one.attack.label, one.attack.protocol] if one.attack else ["", ""]
        line += [_number(met.bare), _number(met.share)] if met else ["", ""]
        line += [_number(row.lost), _number(row.lost_half)]
        lines.append([*line, *map(_yes, (one.complete, one.affordable, one.tied, one.front))])
    return text(RANKING, lines)


def ranking_frame(standings: Iterable[Standing]) -> pd.DataFrame:
    """Return the ranking of a board as a DataFrame with the columns of its CSV."""
    return _frame(ranking(standings))


def claims(papers: Iterable[tuple[Paper, Sequence[Answer]]]) -> str:
    """Return every claim of every paper with its measured number as CSV."""
    head = ["system", "claim", "kind", "sentence", "text", "where", "known", "scaled", "scale", "metric", "wanted"]
    lines = []
    for paper, answers in papers:
        for answer in in_order(answers):
            claim, number = answer.claim, answer.number
            low, high = number.interval or (None, None)
            line = [paper.system, claim.id, claim.kind, claim.sentence or "", claim.text, claim.where, claim.known]
            line += [claim.scaled or "", claim.scale or "", claim.metric or "", claim.wanted()]
            line += [_number(number.measured), _number(low), _number(high), str(number.seeds)]
            lines.append([*line, answer.state, answer.note])
    return text([*head, "measured", "low", "high", "seeds", "state", "note"], lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _values(summary: Summary | None) -> tuple[str, str]:
    return (_number(summary.mean), _number(summary.half_width)) if summary else ("", "")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
