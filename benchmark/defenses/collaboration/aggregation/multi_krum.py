"""Multi-Krum: mean of the uploads with the best Krum scores (Blanchard et al., NeurIPS 2017)."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.krum import (
    krum_scores,
    require_uploads,
    still_assumed,
)
from benchmark.metrics.distances import squared_distances
from benchmark.parameters import CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class MultiKrum(FederatedDefense):
    """Aggregation rule that averages the k uploads with the least Krum scores, all scored once.

    Blanchard et al., NeurIPS 2017, section 6, with k = n - f, the common choice. Needs n >= 2f + 3.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: CountOrZero = 3) -> None:
        self.f = f_assumed

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = still_assumed(self.f, round)
        require_uploads("multi_krum", len(uploads), 2 * f + 3, "2 f + 3", f)
        scores = krum_scores(squared_distances(uploads), len(uploads) - f - 2)
        return uploads[scores.argsort()[: len(uploads) - f]].mean(dim=0)
