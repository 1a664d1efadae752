"""Coordinate-wise median (Yin et al., ICML 2018)."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.ranks import median
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class CoordinateMedian(FederatedDefense):
    """Aggregation rule that takes the median med_i u_i[k] of each coordinate k.

    For an even number of uploads it is the mean of the middle two. Yin, Chen, Ramchandran, Bartlett, *Byzantine-Robust
    Distributed Learning: Towards Optimal Statistical Rates*, ICML 2018, definition 1. Its breakdown point is one half.
    """

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        return median(uploads)
