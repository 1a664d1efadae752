"""Text of a board: numbers as cells of a table, and the sentences above it."""

from __future__ import annotations

from collections.abc import Sequence

from runners.report.ranking import CONTROL, PLAIN, Contest, Standing
from runners.report.sections import NOT_RUN, Cell, Column, Row, Section
from runners.report.statistics import Summary


def number(value: float) -> str:
    """Return ``value`` with three decimals, one from 10 on; zero has no minus."""
    digits = 3 if abs(value) < 10 else 1
    return f"{round(value, digits) + 0.0:.{digits}f}"


def interval(summary: Summary | None, bold: bool = False) -> str:
    """Return ``mean ± half width``, or a dash without values."""
    if summary is None:
        return "–"
    mean = f"**{number(summary.mean)}**" if bold else number(summary.mean)
    return mean if summary.half_width is None else f"{mean} ± {number(summary.half_width)}"


def scaled(section: Section, summary: Summary | None) -> str:
    """Return a utility, in per cent with one decimal where it is a share."""
    if summary is None or not section.fraction:
        return interval(summary)
    half = "" if summary.half_width is None else f" ± {100 * summary.half_width:.1f}"
    return f"{round(100 * summary.mean, 1) + 0.0:.1f}{half}"


def price(section: Section, row: Row) -> str:
    """Return the utility lost against no defense, in points where utility is a share."""
    return scaled(section, row.price)


def worst_case(section: Section, row: Row, metric: str) -> str:
    """Return the risk and name of the strongest attack; ``≈``: tied with the best, ``≥``: attacks are missing."""
    worst = row.worst[metric]
    if worst is None:
        return "–"
    best = section.best(metric)
    tie = "≈ " if row.defense in section.tied[metric] else ""
    bound = "" if worst.complete else "≥ "
    return f"{tie}{bound}{interval(worst.summary, bold=row is best)} ({worst.threat})"


def undefended(row: Row, metric: str) -> str:
    """Return the undefended risk of the worst case's attack, over the same seeds."""
    worst = row.worst[metric]
    return "–" if worst is None or worst.comparison.bare is None else number(worst.comparison.bare)


def percent(share: float | None) -> str:
    """Return a share in per cent without decimals, or a dash where there is none."""
    if share is None:
        return "–"
    return f"{round(100 * share)} %" if share > -0.005 else "< 0 %"


def left(row: Row, metric: str) -> str:
    """Return the share of the undefended risk that the worst case leaves, in per cent."""
    worst = row.worst[metric]
    return percent(worst.comparison.share if worst else None)


def spent(kind: str, row: Row) -> str:
    """Return one kind of cost with its unit, and epsilon with its delta where that is known."""
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
    """Return the reasons to trust the row less: no adaptive threat, runs without a number."""
    adaptive = "" if row.plain or row.met_adaptive else "no adaptive threat met"
    return "; ".join(filter(None, [adaptive, lost(row)]))


def lost(row: Row | Cell) -> str:
    """Return the number of runs without a number, by reason."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(row.lost.items()))


def risk(cell: Cell, column: Column, bold: bool) -> str:
    """Return the risk in one cell, struck where the attack is invalid, with the runs that gave no number."""
    if not cell.risk:
        return state(cell)
    shown = interval(cell.summary, bold)
    some = "".join(f", {count} {reason}" for reason, count in sorted(cell.lost.items()) if reason != NOT_RUN)
    return (f"~~{shown}~~ invalid" if column.invalid else shown) + some


def state(cell: Cell) -> str:
    """Return the state of a cell without a number; a run that failed says more than one that is missing.

    A cell that its board does not plan has a dash.
    """
    return min(cell.lost, key=lambda reason: (reason == NOT_RUN, reason), default="–")


# -- the ranking ------------------------------------------------------------------------------------------------------
def placed(one: Standing) -> str:
    """Return the place of a defense, with ``≈`` where it cannot be told from the best."""
    if one.place is None:
        return "–"
    return f"{'≈ ' if one.tied else ''}{one.place}"


def entrant(one: Standing) -> str:
    """Return the name of a row of the ranking."""
    kind = one.entrant.kind
    return {PLAIN: "no defense", CONTROL: f"control: {one.entrant.defense}"}.get(kind, one.entrant.defense)


def worst_of(one: Standing) -> str:
    """Return the worst case of a row; ``≥``: some attacks have no number yet."""
    if one.worst is None or one.met is None:
        return "–"
    shown = number(one.worst) if one.met.half is None else f"{number(one.worst)} ± {number(one.met.half)}"
    return shown if one.complete else f"≥ {shown}"


def lost_of(found: Contest, one: Standing) -> str:
    """Return the utility that a row loses, in points where utility is a share."""
    if one.entrant.lost is None:
        return "–"
    factor, digits = (100, 1) if found.fraction else (1, 3)
    half = "" if one.entrant.lost_half is None else f" ± {factor * one.entrant.lost_half:.{digits}f}"
    return f"{round(factor * one.entrant.lost, digits) + 0.0:.{digits}f}{half}"


def ranking(found: Contest, standings: Sequence[Standing]) -> tuple[list[str], list[list[str]]]:
    """Return head and lines of the ranking as text."""
    head = ["", "defense", f"worst {found.metric}", "by", "under", "undefended", "left"]
    head += [f"{found.utility} lost{' (points)' if found.fraction else ''}", "front"]
    several = len(found.protocols) > 1
    lines = []
    for one in standings:
        bare = one.met.bare if one.met else None
        line = [placed(one), entrant(one), worst_of(one)]
        line += [one.attack.label, one.attack.protocol if several else "all"] if one.attack else ["–", "–"]
        if one.entrant.kind == CONTROL:
            line[3] = "–"
        line += [number(bare) if bare is not None else "–", percent(one.met.share if one.met else None)]
        line += [lost_of(found, one), "yes" if one.front else "" if one.affordable else "loses too much"]
        lines.append(line)
    return head, lines


# -- sentences --------------------------------------------------------------------------------------------------------
NOTHING = "nothing can be said about any defense"
BELOW = "Below half way against every attack"
BROKEN = "Broken by its adaptive attack"
ABOVE = "Not below half way"
OPEN = "Below half way so far, but not every attack has a number"
UNKNOWN = "Without any number"
VERDICTS = (BELOW, BROKEN, ABOVE, OPEN, UNKNOWN)


def findings(section: Section, metric: str) -> list[str]:
    """Return a sentence on the attacks without a defense, then one for each group of defenses."""
    bare, chance = section.bare(metric), section.chance(metric)
    if bare is None:
        return [f"no attack is known to work here without a defense: {NOTHING}."]
    opening = f"without a defense the strongest attack is {bare.threat} ({number(bare.mean)})"
    half = half_way(section, metric)
    if half is None:
        return [f"{opening}, no better than a negative control ({number(chance)}): {NOTHING}."]
    groups: dict[str, list[str]] = {}
    for row in section.rows:
        if kind := verdict(section, row, metric):
            groups.setdefault(kind, []).append(_told(section, row, metric, kind))
    control = f"the best negative control reaches {number(chance)}" if chance else "no negative control stands above 0"
    lines = [f"{opening}; {control}, so half way is {number(half)}."]
    return lines + [f"{kind}: {', '.join(groups[kind])}." for kind in VERDICTS if kind in groups]


def half_way(section: Section, metric: str) -> float | None:
    """Return the middle between chance and the undefended worst case; None where no attack beats chance."""
    bare, chance = section.bare(metric), section.chance(metric)
    return (bare.mean + chance) / 2 if bare is not None and bare.mean > chance else None


def verdict(section: Section, row: Row, metric: str) -> str | None:
    """Return one of :data:`VERDICTS`; None for no defense, and where no attack works or none was tried."""
    half = half_way(section, metric)
    if row.plain or half is None or not section.met(row, metric):
        return None
    worst = row.worst[metric]
    if worst is None:
        return UNKNOWN
    if worst.mean >= half:
        return BROKEN if _is_adaptive(section, worst.threat) and stopped(section, row, metric) else ABOVE
    return BELOW if worst.complete else OPEN


def _is_adaptive(section: Section, threat: str) -> bool:
    return any(column.adaptive for column in section.columns if column.threat == threat)


def stopped(section: Section, row: Row, metric: str) -> tuple[str, float] | None:
    """Return the strongest attack that the defense holds below half way, with its remaining risk.

    Only attacks count that do not know the defense and reach half way without it; None where there is no such attack.
    """
    half = half_way(section, metric)
    if half is None:
        return None
    held = []
    for column in section.columns:
        met = row.cells[column.threat].comparison
        if column.metric != metric or column.adaptive or not column.counts or not met.summary or met.bare is None:
            continue
        if met.summary.mean < half <= met.bare:
            held.append((met.bare, column.threat, met.summary.mean))
    return max(held)[1:] if held else None


def _told(section: Section, row: Row, metric: str, kind: str) -> str:
    """Return a defense with the numbers that matter in its group."""
    worst, held = row.worst[metric], stopped(section, row, metric)
    if worst is None:
        return row.defense
    if kind == BROKEN and held is not None:
        return f"{row.defense} ({number(held[1])} by {held[0]} → {number(worst.mean)} by {worst.threat})"
    if kind == ABOVE:
        return f"{row.defense} ({number(worst.mean)})"
    unit = "points of " if section.fraction else ""
    notes = [f"costs {price(section, row)} {unit}{section.utility}" if row.price else "cost unknown"]
    if not row.met_adaptive:
        notes.append("no adaptive threat met")
    return f"{row.defense} ({'; '.join(notes)})"
