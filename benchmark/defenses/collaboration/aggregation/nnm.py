"""Nearest neighbour mixing: replace every upload by the mean of its nearest neighbours before any rule aggregates."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.metrics.distances import squared_distances
from benchmark.parameters import CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class NNM(FederatedDefense):
    """Pre-aggregator that replaces u_i by the mean of the n - f uploads nearest to it, itself included.

    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, *Fixing by Mixing: A Recipe for Optimal Byzantine ML under
    Heterogeneity*, AISTATS 2023, algorithm 2. Stack it with a rule, ``defense=[nnm,krum]``; alone, the mean
    follows.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: CountOrZero | None = None) -> None:
        self.f = f_assumed

    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = malicious_uploads("nnm", self.f, len(uploads), round, each=2, more=1)
        distances = squared_distances(uploads)
        nearest = distances.sort(dim=1, stable=True).indices[:, : len(uploads) - f]
        return uploads.new_zeros(len(uploads), len(uploads)).scatter_(1, nearest, 1 / nearest.shape[1]) @ uploads
