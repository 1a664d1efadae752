"""Means over seeds with their uncertainty, and the paired bootstrap that tells which of two numbers is greater."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

# scipy.stats has the same function, but its import alone takes longer than writing all boards.
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95
EXACT_UP_TO = 8
"""Seeds whose resamples are listed: 6,435 of eight seeds, which differ in how often they hold each."""
DRAWN = 5000
"""Resamples that are drawn where there are more seeds."""
SLACK = 1e-12
Sample = Mapping[int, float]
"""Seed -> value."""
Draw = tuple[float, tuple[int, ...]]
"""Probability of a resample, and how often it holds each seed."""


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


@cache
def resamples(n: int) -> list[Draw]:
    """Return all distinct resamples of ``n`` seeds with replacement; of many seeds :data:`DRAWN` at random."""
    if n <= EXACT_UP_TO:
        return [(_multinomial(counts) / n**n, counts) for counts in _compositions(n, n)]
    drawn = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=DRAWN)
    return [(1 / DRAWN, tuple(counts)) for counts in drawn.tolist()]


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write ``total`` as a sum of ``parts`` counts."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        yield from ((first, *rest) for rest in _compositions(total - first, parts - 1))


def _multinomial(counts: Sequence[int]) -> int:
    return math.factorial(sum(counts)) // math.prod(map(math.factorial, counts))


def differ(a: Sequence[Sample], b: Sequence[Sample]) -> bool | None:
    """Return whether the greatest mean of ``a`` differs from that of ``b``; None with fewer than two shared seeds.

    A paired bootstrap over seeds (Efron and Tibshirani, 1993, chapters 8 and 13): in each resample of the seeds that
    all samples share, both greatest means are taken anew, so that the choice of the greatest is part of what is
    uncertain. With few seeds the 95 % percentile interval of their difference is too narrow: resamples spread less than
    samples, and a spread from few values is uncertain itself. So it is stretched, as Student's interval is against the
    normal one (see :func:`stretch`). They differ where it does not hold 0.
    """
    seeds = sorted(set.intersection(*(set(sample) for sample in (*a, *b)))) if a and b else []
    n = len(seeds)
    if n < 2:
        return None
    draws = resamples(n)
    weights = np.array([counts for _, counts in draws]) / n
    gaps = _greatest(a, seeds, weights) - _greatest(b, seeds, weights)
    low, high = _percentiles(gaps, np.array([chance for chance, _ in draws]))
    plain = np.full((1, n), 1 / n)
    centre = float((_greatest(a, seeds, plain) - _greatest(b, seeds, plain))[0])
    low, high = (centre + stretch(n) * (end - centre) for end in (low, high))
    return low > SLACK or high < -SLACK


def stretch(n: int) -> float:
    """Return the factor of intervals from ``n`` seeds: sqrt(n / (n - 1)) times Student's quantile over the normal one.

    It is the correction of Hesterberg's expanded percentile interval (The American Statistician 2015), taken on the
    interval's ends because the quantiles of so few distinct resamples end at the extreme ones.
    """
    level = (1 + CONFIDENCE) / 2
    return math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, level)) / float(ndtri(level))


def _greatest(samples: Sequence[Sample], seeds: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """Return the greatest weighted mean of ``samples`` in each row of ``weights`` (draws, seeds)."""
    values = np.array([[sample[seed] for seed in seeds] for sample in samples])
    return np.asarray((weights[:, None, :] * values).sum(axis=2).max(axis=1))


def _percentiles(values: np.ndarray, chances: np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle :data:`CONFIDENCE` of ``values`` that have these probabilities."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(chances[order])
    tail = (1 - CONFIDENCE) / 2
    low, high = (int(np.argmax(reached >= level - SLACK)) for level in (tail, 1 - tail))
    return float(values[order][low]), float(values[order][high])


def ties(best: str, samples: Mapping[str, Sequence[Sample]]) -> set[str]:
    """Return the names whose greatest mean :func:`differ` cannot tell from that of ``best``."""
    return {name for name, own in samples.items() if name != best and differ(samples[best], own) is False}
