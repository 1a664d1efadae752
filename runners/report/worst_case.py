"""The worst case of a defense, defined once for every output: Markdown, CSV, LaTeX, terminal and web site.

A *protocol* is a dataset, a model, a setting and a scale with all their parameters. Under one protocol the worst case
of a defense is the attack of highest mean risk, over the attacks that the defense met. Adaptive forms are attacks of
their own. Controls are no attacks, and an attack below its floor without a defense proves nothing, so neither counts.

A defended cell is compared only with the undefended cell of the same protocol, threat and seed. The number shown and
the share that colours it are means over the same seeds. So seeds or protocols that only one of the two has cannot make
a defense look better or worse than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from runners.report.statistics import Sample, Summary, summarise

T = TypeVar("T")


@dataclass(frozen=True)
class Comparison:
    """Risk of one threat with a defense and without, under one protocol.

    Attributes:
        risk: by seed, with the defense.
        undefended: by seed, without a defense; empty where the two may not be compared.
        chance: risk that the strongest negative control reaches.
    """

    risk: Sample
    undefended: Sample
    chance: float = 0.0

    @cached_property
    def summary(self) -> Summary | None:
        """Return the mean risk with the defense, or None without any number."""
        return summarise(list(self.risk.values()))

    @cached_property
    def bare(self) -> float | None:
        """Return the mean risk without a defense, over the seeds of :attr:`summary`."""
        summary = summarise(list(self.undefended.values()))
        return summary.mean if summary else None

    @property
    def share(self) -> float | None:
        """Return the share left of the undefended risk above chance; None if the attack does not beat chance."""
        if self.summary is None or self.bare is None or self.bare <= self.chance:
            return None
        return (self.summary.mean - self.chance) / (self.bare - self.chance)


def compare(risk: Sample, undefended: Sample, chance: float = 0.0) -> Comparison:
    """Return the comparison of two samples over the seeds that both have."""
    seeds = sorted(set(risk) & set(undefended))
    return Comparison({seed: risk[seed] for seed in seeds}, {seed: undefended[seed] for seed in seeds}, chance)


@dataclass(frozen=True)
class Worst:
    """The strongest attack that a defense met; ``complete``: every attack that works here has a number against it."""

    threat: str
    comparison: Comparison
    complete: bool

    @property
    def summary(self) -> Summary:
        assert self.comparison.summary is not None
        return self.comparison.summary

    @property
    def mean(self) -> float:
        return self.summary.mean


def worst_case(attacks: Mapping[str, Comparison]) -> Worst | None:
    """Return the attack of highest mean risk, the first by name among equals; None where none has a number.

    Args:
        attacks: by threat, the attacks that work without a defense under one protocol and share a metric.
    """
    strongest = highest(sorted(attacks), lambda threat: attacks[threat])
    if strongest is None:
        return None
    complete = all(comparison.summary for comparison in attacks.values())
    return Worst(strongest, attacks[strongest], complete)


def highest(candidates: Iterable[T], comparison: Callable[[T], Comparison]) -> T | None:
    """Return the first of the ``candidates`` with the highest mean risk; None where none has a number."""
    measured = [(summary.mean, one) for one in candidates if (summary := comparison(one).summary)]
    return max(measured, key=lambda pair: pair[0])[1] if measured else None
