"""Means over seeds with their uncertainty, and tests of which samples differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# scipy.stats has the same functions, but its import alone takes longer than writing all boards.
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
Sample = Mapping[int, float]
"""Seed -> value."""


@dataclass(frozen=True)
class Summary:
    """A mean over ``n`` seeds; ``half_width`` of its 95 % Student-t interval, None for a single seed."""

    mean: float
    half_width: float | None
    n: int


def summarise(values: Sequence[float]) -> Summary | None:
    """Return mean and interval of independent ``values``, or None when there are none."""
    n = len(values)
    if n == 0:
        return None
    if n == 1:
        return Summary(values[0], None, 1)
    if min(values) == max(values):  # the mean would differ from the values by a rounding error, and so have a spread
        return Summary(values[0], 0.0, n)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Summary(mean, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * spread / math.sqrt(n), n)


def differences(a: Sample, b: Sample) -> list[float]:
    """Return a - b for every seed that both have, in the order of the seeds."""
    return [a[seed] - b[seed] for seed in sorted(set(a) & set(b))]


def paired_p(a: Sample, b: Sample) -> float | None:
    """Return the two-sided p of the paired t-test over the shared seeds, or None with fewer than two of them."""
    gaps = differences(a, b)
    summary = summarise(gaps)
    if summary is None or summary.n < 2:
        return None
    error = math.sqrt(math.fsum((gap - summary.mean) ** 2 for gap in gaps) / (summary.n - 1) / summary.n)
    if error == 0:
        return 1.0 if summary.mean == 0 else 0.0
    return float(2 * stdtr(summary.n - 1, -abs(summary.mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, each to be compared with the level (Holm, Scand. J. Statist. 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def ties(best: str, samples: Mapping[str, Sample]) -> set[str]:
    """Return the names that paired t-tests with Holm's correction cannot tell from ``best``.

    Names that share fewer than two seeds with ``best`` cannot be tested and are left out.
    """
    tested = {name: paired_p(samples[best], sample) for name, sample in samples.items() if name != best}
    known = {name: p for name, p in tested.items() if p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    return {name for name, p in adjusted.items() if p > 1 - CONFIDENCE}
