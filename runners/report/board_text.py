"""How a leaderboard puts its numbers: as cells of a table, and as a few sentences above it."""

from __future__ import annotations

from runners.report.boards import NOT_RUN, Board, Cell, Column, Row
from runners.report.statistics import Summary


def number(value: float) -> str:
    """Three decimals, fewer for large values; no minus before a zero."""
    digits = 3 if abs(value) < 10 else 1
    return f"{round(value, digits) + 0.0:.{digits}f}"


def interval(summary: Summary | None, bold: bool = False) -> str:
    """``mean ± half width``, a dash without values."""
    if summary is None:
        return "–"
    mean = f"**{number(summary.mean)}**" if bold else number(summary.mean)
    return mean if summary.half_width is None else f"{mean} ± {number(summary.half_width)}"


def scaled(board: Board, summary: Summary | None) -> str:
    """Utility, in per cent (one decimal) where it is a share."""
    if summary is None or not board.fraction:
        return interval(summary)
    half = "" if summary.half_width is None else f" ± {100 * summary.half_width:.1f}"
    return f"{round(100 * summary.mean, 1) + 0.0:.1f}{half}"


def price(board: Board, row: Row) -> str:
    """Utility lost against no defense, in points where utility is a share."""
    return scaled(board, row.price)


def worst_case(board: Board, row: Row, metric: str) -> str:
    """The strongest attack on a row: tied with the best?, a bound only?, the risk, and by whom."""
    worst = row.worst[metric]
    if worst is None:
        return "–"
    best = board.best(metric)
    tie = "≈ " if row.defense in board.tied[metric] else ""
    bound = "" if worst.complete else "≥ "
    return f"{tie}{bound}{interval(worst.cell.summary, bold=row is best)} ({worst.threat})"


def spent(kind: str, row: Row) -> str:
    """One kind of cost with its unit; epsilon never without its delta where that is known."""
    if kind not in row.costs:
        return "–"
    value = row.costs[kind]
    if kind == "epsilon":
        return f"{value:.3g} (δ={row.costs['delta']:g})" if "delta" in row.costs else f"{value:.3g}"
    return _bytes(value) if kind == "bytes_sent" else f"{value:.1f}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def remarks(row: Row) -> str:
    """What limits the row's claim."""
    adaptive = "" if row.plain or row.met_adaptive else "no adaptive threat met"
    return "; ".join(filter(None, [adaptive, lost(row)]))


def lost(row: Row) -> str:
    """Runs that gave no number, counted by reason."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(row.lost.items()))


def risk(cell: Cell, column: Column, bold: bool) -> str:
    """The risk in one cell, struck where the attack is invalid, with the runs that gave no number."""
    if not cell.risk:
        return state(cell)
    shown = interval(cell.summary, bold)
    some = "".join(f", {count} {reason}" for reason, count in sorted(cell.lost.items()) if reason != NOT_RUN)
    return (f"~~{shown}~~ invalid" if column.invalid else shown) + some


def state(cell: Cell) -> str:
    """What became of a cell without a number; a run that broke says more than one that never was."""
    return min(cell.lost, key=lambda reason: (reason == NOT_RUN, reason), default=NOT_RUN)


# -- sentences --------------------------------------------------------------------------------------------------------
NOTHING = "nothing can be said about any defense"
BELOW = "Below half way against every attack"
BROKEN = "Broken by its adaptive attack"
ABOVE = "Not below half way"
OPEN = "Below half way so far, but not every attack has a number"
UNKNOWN = "Without any number"
VERDICTS = (BELOW, BROKEN, ABOVE, OPEN, UNKNOWN)


def reading(board: Board) -> str:
    """What the board says, for each risk metric: a list of findings in Markdown, computed from the rows alone."""
    items = []
    for metric in board.metrics:
        opening, *rest = findings(board, metric)
        items += [f"* **{metric}**: {opening}", *(f"  * {finding}" for finding in rest)]
    return "\n".join(items)


def findings(board: Board, metric: str) -> list[str]:
    """How strong the attacks are without a defense, and then a sentence for each group of defenses."""
    bare, chance = board.bare(metric), board.chance(metric)
    if bare is None:
        return [f"no attack is known to work here without a defense: {NOTHING}."]
    opening = f"without a defense the strongest attack is {bare.threat} ({number(bare.mean)})"
    half = half_way(board, metric)
    if half is None:
        return [f"{opening}, no better than a negative control ({number(chance)}): {NOTHING}."]
    groups: dict[str, list[str]] = {}
    for row in board.rows:
        if kind := verdict(board, row, metric):
            groups.setdefault(kind, []).append(_told(board, row, metric, kind))
    control = f"the best negative control reaches {number(chance)}" if chance else "no negative control stands above 0"
    lines = [f"{opening}; {control}, so half way is {number(half)}."]
    return lines + [f"{kind}: {', '.join(groups[kind])}." for kind in VERDICTS if kind in groups]


def half_way(board: Board, metric: str) -> float | None:
    """The middle between chance and the undefended worst case; None where no attack is better than chance."""
    bare, chance = board.bare(metric), board.chance(metric)
    return (bare.mean + chance) / 2 if bare is not None and bare.mean > chance else None


def verdict(board: Board, row: Row, metric: str) -> str | None:
    """Which of :data:`VERDICTS` holds for a defense; None for no defense, and where nothing can be or was tried."""
    half = half_way(board, metric)
    if row.plain or half is None or not board.met(row, metric):
        return None
    worst = row.worst[metric]
    if worst is None:
        return UNKNOWN
    if worst.mean >= half:
        return BROKEN if _is_adaptive(board, worst.threat) and stopped(board, row, metric) else ABOVE
    return BELOW if worst.complete else OPEN


def _is_adaptive(board: Board, threat: str) -> bool:
    return any(column.adaptive for column in board.columns if column.threat == threat)


def stopped(board: Board, row: Row, metric: str) -> tuple[str, float] | None:
    """The strongest attack that works undefended, does not know the defense and is held below half way by it, and what
    is left of that attack; None where there is no such attack."""
    bare, half = board.undefended, half_way(board, metric)
    if bare is None or half is None:
        return None
    held = [
        (before.mean, column.threat, after.mean)
        for column in board.columns
        if column.metric == metric
        and not (column.adaptive or column.control or column.invalid)
        and (before := _summary(bare, column.threat)) is not None
        and (after := _summary(row, column.threat)) is not None
        and after.mean < half <= before.mean
    ]
    return max(held)[1:] if held else None


def _summary(row: Row, threat: str) -> Summary | None:
    return row.cells[threat].summary if threat in row.cells else None


def _told(board: Board, row: Row, metric: str, kind: str) -> str:
    """A defense with what matters in its group."""
    worst, held = row.worst[metric], stopped(board, row, metric)
    if worst is None:
        return row.defense
    if kind == BROKEN and held is not None:
        return f"{row.defense} ({number(held[1])} by {held[0]} → {number(worst.mean)} by {worst.threat})"
    if kind == ABOVE:
        return f"{row.defense} ({number(worst.mean)})"
    unit = "points of " if board.fraction else ""
    notes = [f"costs {price(board, row)} {unit}{board.utility}" if row.price else "cost unknown"]
    if not row.met_adaptive:
        notes.append("no adaptive threat met")
    return f"{row.defense} ({'; '.join(notes)})"
