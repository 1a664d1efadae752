"""Likelihood-ratio membership inference (LiRA): the whole mechanism is refitted with and without each candidate.

Carlini, Chien, Nasr, Song, Terzis, Tramer, *Membership Inference Attacks From First Principles*, S&P 2022, applied to
release mechanisms instead of classifiers: the statistic is one of the release and not a classifier's confidence.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.metrics.membership import best_threshold, record_aucs, worst_decile
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.statistics import comparable, statistic_named

VERSION = 1
POOLED_BELOW = 64
SMALLEST = 1e-6


class Lira(ReleaseThreat):
    """Attack that compares a statistic's likelihoods under Gaussians fitted to shadows with and without the candidate.

    The adversary runs the mechanism on random halves of the candidates and its own samples, in complementary pairs, no
    larger than the private data. Below 64 shadows all candidates share one variance for in and one for out, as the
    paper advises. Thresholds come from the shadows, each scored by the others. So does the AUC of each single record,
    whose worst decile is reported, since averages hide victims; it is reported together with its value by chance, for
    randomly drawn members, since with few shadows noise raises the worst tenth above 0.5.

    Args:
        shadows: K refits, at least 4. Results for different K are different rows.
        statistic: as in :mod:`benchmark.threats.membership_inference.statistics`.
    """

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.95)
    knowledge = frozenset({"attacker_data", "refit"})

    def __init__(
        self, *, shadows: Annotated[int, Ge(4)] = 16, statistic: str = "nearest", adaptive: bool = True
    ) -> None:
        super().__init__(adaptive=adaptive)
        if shadows < 4 or shadows % 2:
            raise ConfigError(f"threat.shadows must be even and at least 4, got {shadows}.")
        self.shadows, self.statistic = shadows, statistic_named(statistic)

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        asked, own = surface.candidates, surface.attacker
        pool = asked.joined(own)
        size = min(len(surface.x), len(pool) // 2)
        inside, values = [], []
        for pair in range(self.shadows // 2):
            order = torch.randperm(len(pool), generator=rng).to(asked.y.device)
            for side, rows in enumerate((order[:size], order[-size:])):
                release = surface.refit(pool[rows], f"shadow.{2 * pair + side}")
                values.append(self.measure(surface, release.x, release.y, rng))
                inside.append(torch.isin(torch.arange(len(asked), device=rows.device), rows))
        shadow, member = torch.stack(values), torch.stack(inside)
        scores = likelihood_ratio(self.measure(surface, surface.x, surface.y, rng), shadow, member)
        diagnostics: dict[str, float | str] = {"shadows": self.shadows}
        ranked = shadow_scores(shadow, member)
        by_chance = member[torch.randperm(len(member), generator=rng).to(member.device)]
        diagnostics["worst_decile_record_auc"] = worst_decile(record_aucs(ranked, member))
        diagnostics["worst_decile_record_auc_by_chance"] = worst_decile(record_aucs(ranked, by_chance))
        return MembershipScores(scores, shadow_threshold(shadow, member), diagnostics=diagnostics)

    def measure(self, surface: MemberSurface, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """Return the statistic (n,) of each candidate in a release ``x`` (m, ...) with labels ``y``."""
        points, released = comparable(surface.candidates.x, x)
        return self.statistic(points, released, surface.attacker.x.flatten(start_dim=1))


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
