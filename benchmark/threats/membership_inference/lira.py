"""Likelihood-ratio membership inference (LiRA): the whole mechanism is refitted with and without each candidate.

Carlini, Chien, Nasr, Song, Terzis, Tramer, *Membership Inference Attacks From First Principles*, S&P 2022, applied to
release mechanisms instead of classifiers: the statistic is one of the release and not a classifier's confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.metrics.membership import best_threshold, record_aucs, worst_decile
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.statistics import comparable, statistic_named

VERSION = 2
POOLED_BELOW = 64
SMALLEST = 1e-6


class Lira(ReleaseThreat):
    """Attack that compares a statistic's likelihoods under Gaussians fitted to shadows with and without the candidate.

    The adversary runs the mechanism on one random half of the candidates and then on the other, each time filled up
    with samples of its own to the size of the private data, or as near as its samples go (``shadow_size`` in the
    record): a smaller set would be fitted more closely. Offline, no shadow holds a candidate, so that one set of
    shadows serves for any people; the score is then the distance from the mean without the candidate, in deviations.
    Below 64 shadows all candidates share one variance for in and one for out, as the paper advises. Thresholds come
    from the shadows, each scored by the others. So does the AUC of each single record, whose worst decile is
    reported, since averages hide victims; it is reported together with its value by chance, for randomly drawn
    members, since with few shadows noise raises the worst tenth above 0.5. Offline there are neither.

    Args:
        shadows: K refits, at least 4. Results for different K are different rows.
        statistic: as in :mod:`benchmark.threats.membership_inference.statistics`.
        offline: shadows of the adversary's own samples alone.
    """

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.95)
    knowledge = frozenset({"attacker_data", "refit"})

    def __init__(
        self,
        *,
        shadows: Annotated[int, Ge(4)] = 16,
        statistic: str = "nearest",
        offline: bool = False,
        adaptive: bool = True,
    ) -> None:
        super().__init__(adaptive=adaptive)
        if shadows < 4 or shadows % 2:
            raise ConfigError(f"threat.shadows must be even and at least 4, got {shadows}.")
        self.shadows, self.statistic, self.offline = shadows, statistic_named(statistic), offline

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        inside, values, size = [], [], 0
        for number, (inner, private) in enumerate(self.draws(surface, rng)):
            size = len(private)
            release = surface.refit(private, f"shadow.{number}")
            values.append(self.measure(surface, release.x, release.y, rng))
            inside.append(inner)
        shadow, member = torch.stack(values), torch.stack(inside)
        value = self.measure(surface, surface.x, surface.y, rng)
        diagnostics: dict[str, float | str] = {"shadows": self.shadows, "shadow_size": size}
        if self.offline:
            return MembershipScores(deviations_above(value, shadow), None, diagnostics=diagnostics)
        ranked = shadow_scores(shadow, member)
        by_chance = member[torch.randperm(len(member), generator=rng).to(member.device)]
        diagnostics["worst_decile_record_auc"] = worst_decile(record_aucs(ranked, member))
        diagnostics["worst_decile_record_auc_by_chance"] = worst_decile(record_aucs(ranked, by_chance))
        return MembershipScores(
            likelihood_ratio(value, shadow, member), shadow_threshold(shadow, member), diagnostics=diagnostics
        )

    def draws(self, surface: MemberSurface, rng: torch.Generator) -> Iterator[tuple[Tensor, Split]]:
        """Yield for every shadow which candidates are in, bool (n,), and its private data.

        Raises:
            Refused: the adversary has no samples of its own for offline shadows.
        """
        asked, own = surface.candidates, surface.attacker
        if self.offline and not len(own):
            raise Refused("Offline shadows are fitted on the adversary's own samples: raise dataset.sizes.attacker.")
        for _ in range(self.shadows // 2):
            order = torch.randperm(len(asked), generator=rng)
            for half in order.tensor_split(2):
                chosen = half[:0] if self.offline else half
                filling = torch.randperm(len(own), generator=rng)[: max(0, surface.private - len(chosen))]
                inner = torch.zeros(len(asked), dtype=torch.bool).index_fill(0, chosen, True)
                device = asked.y.device
                yield inner.to(device), asked[chosen.to(device)].joined(own[filling.to(device)])

    def measure(self, surface: MemberSurface, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """Return the statistic (n,) of each candidate in a release ``x`` (m, ...) with labels ``y``."""
        points, released = comparable(surface.candidates.x, x)
        return self.statistic(points, released, surface.attacker.x.flatten(start_dim=1))


def deviations_above(value: Float[Tensor, " n"], shadow: Float[Tensor, "k n"]) -> Float[Tensor, " n"]:
    """Return how many deviations ``value`` lies above the mean of shadows without the candidate.

    It orders people as the paper's offline score does, the probability that a Gaussian of that mean and deviation is
    below ``value``.

    Args:
        value, shadow: as in :func:`likelihood_ratio`.
    """
    mean, deviation = moments(shadow, torch.ones_like(shadow, dtype=torch.bool), len(shadow) < POOLED_BELOW)
    return (value - mean) / deviation


def likelihood_ratio(
    value: Float[Tensor, " n"], shadow: Float[Tensor, "k n"], member: Bool[Tensor, "k n"]
) -> Float[Tensor, " n"]:
    """Return log N(value; in) - log N(value; out) for each candidate.

    Args:
        value: the statistic in the release under attack.
        shadow: the statistic in each shadow.
        member: the members of each shadow.
    """
    pooled = len(shadow) < POOLED_BELOW
    (mean_in, std_in), (mean_out, std_out) = (moments(shadow, rows, pooled) for rows in (member, ~member))
    inside = -((value - mean_in) / std_in).square() / 2 - std_in.log()
    outside = -((value - mean_out) / std_out).square() / 2 - std_out.log()
    return inside - outside


def moments(
    values: Float[Tensor, "k n"], chosen: Bool[Tensor, "k n"], pooled: bool
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return mean and deviation per column over the ``chosen`` of ``values``; empty columns get the overall mean."""
    count = chosen.sum(dim=0)
    mean = torch.where(chosen, values, 0.0).sum(dim=0) / count.clamp_min(1)
    mean = torch.where(count > 0, mean, values[chosen].mean())
    squares = torch.where(chosen, (values - mean).square(), 0.0)
    variance = squares.sum() / (count - 1).clamp_min(0).sum().clamp_min(1) if pooled else squares.sum(dim=0) / count
    return mean, variance.sqrt().clamp_min(SMALLEST).expand_as(mean)


def shadow_threshold(shadow: Float[Tensor, "k n"], member: Bool[Tensor, "k n"]) -> float:
    """Return the threshold of the greatest balanced accuracy, on shadows that are each scored by all the others."""
    scores, truth = shadow_scores(shadow, member).flatten(), member.flatten()
    return best_threshold(scores[truth], scores[~truth])


def shadow_scores(shadow: Float[Tensor, "k n"], member: Bool[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """Return scores of every shadow's candidates, each computed from all other shadows."""
    rows = torch.arange(len(shadow))
    return torch.stack([likelihood_ratio(shadow[i], shadow[rows != i], member[rows != i]) for i in rows])
