"""Mimic: all malicious parties copy one honest party."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.metrics.distances import inner_products
from benchmark.parameters import BelowOne, Index
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class Mimic(ContributionThreat):
    """Attack that uploads a copy of one honest update, so that this party's data count several times.

    Karimireddy, He, Jaggi, *Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing*, ICLR 2022, section 3.2
    and appendix B. It matters where the parties' data differ; no rule can tell the copies from an honest update.
    Deviation: the victim is chosen anew in each round, as the party farthest out along the direction of greatest spread
    of this round's updates; the paper fixes it after a warm-up.

    Args:
        victim: row of the honest updates that is copied, or None for the choice above.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)
    knowledge = frozenset({"updates"})

    def __init__(self, *, victim: Index | None = None, fraction: BelowOne = 0.2, follows_exchange: bool = True) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.victim = victim

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        known = surface.honest if len(surface.honest) else surface.own
        copied = farthest_out(known) if self.victim is None else self.victim % len(known)
        return Contribution(known[copied].expand_as(surface.own))


def farthest_out(updates: Float[Tensor, "n d"]) -> int:
    """Return the row with the largest absolute projection on the first principal component of all rows."""
    gram = inner_products(updates, updates.mean(dim=0)).nan_to_num(0.0, 0.0, 0.0)
    return int(torch.linalg.eigh(gram).eigenvectors[:, -1].abs().argmax())
