"""Nearest neighbour mixing: every upload becomes the mean of those nearest to it, before any rule aggregates."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.krum import at_least, not_negative
from benchmark.metrics.distances import squared_distances
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class NNM(FederatedDefense):
    """Replaces u_i by the mean of the n - f uploads nearest to it, itself included.

    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, *Fixing by Mixing: A Recipe for Optimal Byzantine ML under
    Heterogeneity*, AISTATS 2023, algorithm 2. A pre-aggregator: stack it with a rule, ``defense=[nnm,krum]``; by itself
    the mean follows.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: int) -> None:
        self.f = not_negative("nnm", f_assumed)

    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        at_least("nnm", len(uploads), 2 * self.f + 1, "2 f + 1", self.f)
        distances = squared_distances(uploads)
        near = distances.sort(dim=1, stable=True).indices[:, : len(uploads) - self.f]
        return uploads.new_zeros(len(uploads), len(uploads)).scatter_(1, near, 1 / near.shape[1]) @ uploads
