"""Mimic: all malicious parties copy one honest party."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from benchmark.parameters import BelowOne, CountOrZero, Index
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 2


class Mimic(ContributionThreat):
    """Attack that uploads a copy of one honest update, so that this party's data count several times.

    Karimireddy, He, Jaggi, *Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing*, ICLR 2022, section 3.2
    and appendix B. It matters where the parties' data differ; no rule can tell the copies from an honest update. In the
    warm-up the adversary learns the direction z of the updates' greatest spread by Oja's rule and follows the party
    farthest out along it; then it keeps to the party i with the largest |sum_t <z_t, u_i>|. Where that party does not
    take part in a round, it copies the next one.

    Args:
        victim: row of the honest updates that is copied, or None for the choice above.
        warm_up: rounds before the victim is fixed; at least one.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)
    knowledge = frozenset({"updates"})

    def __init__(
        self,
        *,
        victim: Index | None = None,
        warm_up: CountOrZero = 10,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.victim, self.warm_up = victim, warm_up
        self.seen = 0

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        known = surface.honest if len(surface.honest) else surface.own
        copied = self._farthest(known, surface, rng) if self.victim is None else self.victim % len(known)
        return Contribution(known[copied].expand_as(surface.own))

    def _farthest(self, known: Tensor, surface: ContributionSurface, rng: torch.Generator) -> int:
        """Return the row to copy, and learn from this round while the warm-up lasts."""
        if surface.round == 0:
            self.seen = 0
        if self.seen == 0:
            self.direction = F.normalize(torch.randn(known.shape[1], generator=rng), dim=0).to(known)
            self.mean = torch.zeros_like(self.direction)
            self.outness = torch.zeros(surface.parties)
        rows = torch.arange(len(known)) if not len(surface.honest) else surface.others
        if self.seen < max(1, self.warm_up):
            self.mean, self.direction = oja(known.nan_to_num(), self.mean, self.direction, self.seen)
            self.seen += 1
            along = (known.nan_to_num() @ self.direction).cpu()
            self.outness[rows] += along
            if self.seen < self.warm_up:
                return int(along.abs().argmax())
        return int(self.outness[rows].abs().argmax())


def oja(
    updates: Float[Tensor, "n d"], mean: Float[Tensor, " d"], direction: Float[Tensor, " d"], step: int
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return mean and direction of greatest spread after one more round (n, d); ``step`` counts those before it."""
    old, new = step / (step + 1), 1 / (step + 1)
    mean = old * mean + new * updates.mean(dim=0)
    apart = updates - mean
    learnt = F.normalize(apart.T @ (apart @ direction), dim=0)
    return mean, F.normalize(old * direction + new * learnt, dim=0)
