"""Intervals of 95 % over seeds: of a mean, and of a ratio of two paired means."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runners.report.statistics import summarise

Interval = tuple[float, float]
ANYTHING: Interval = (-math.inf, math.inf)


def of_mean(values: Sequence[float]) -> Interval:
    """Return the Student-t interval of the mean; the value itself, where there is only one."""
    found = summarise(values)
    if found is None or not all(map(math.isfinite, values)):
        return ANYTHING
    half = found.half_width or 0.0
    return found.mean - half, found.mean + half


def of_ratio(over: Sequence[float], under: Sequence[float]) -> Interval:
    """Return the interval of mean(over) / mean(under) for paired values (Fieller, J. R. Stat. Soc. B 1954).

    It holds every r for which over - r * under may have a mean of zero, and is unbounded where the mean of ``under``
    may be zero. What is surely positive is infinitely more than a constant zero.
    """
    if not any(under):
        return (math.inf, math.inf) if of_mean(over)[0] > 0 else ANYTHING
    if len(over) == 1:
        return over[0] / under[0], over[0] / under[0]
    a, b = math.fsum(over) / len(over), math.fsum(under) / len(under)
    # squared half-widths, the cross term by polarisation
    aa, bb = _squared(over), _squared(under)
    ab = (_squared([x + y for x, y in zip(over, under, strict=True)]) - aa - bb) / 2
    scale = b * b - bb
    if scale <= 0:
        return ANYTHING
    centre = (a * b - ab) / scale
    half = math.sqrt(max(0.0, centre * centre - (a * a - aa) / scale))
    return centre - half, centre + half


def of_factor(ratios: Sequence[float]) -> Interval:
    """Return the interval of the geometric mean; nothing is known where a ratio is not positive and finite."""
    if not all(0 < ratio < math.inf for ratio in ratios):
        return ANYTHING
    low, high = of_mean([math.log(ratio) for ratio in ratios])
    return math.exp(low), math.exp(high)


def _squared(values: Sequence[float]) -> float:
    low, high = of_mean(values)
    return ((high - low) / 2) ** 2
