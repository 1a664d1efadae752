"""Multi-Krum: mean of the uploads with the best Krum scores (Blanchard et al., NeurIPS 2017)."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.defenses.collaboration.aggregation.krum import krum_scores
from benchmark.metrics.distances import squared_distances
from benchmark.parameters import Count, CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class MultiKrum(FederatedDefense):
    """Aggregation rule that averages the k uploads with the least Krum scores, all scored once.

    Blanchard et al., NeurIPS 2017, section 6. Needs n >= 2f + 3.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
        kept: k; None for n - f, the common choice. Jebreel et al. 2024 take n - f - 2.
    """

    def __init__(self, *, f_assumed: CountOrZero | None = None, kept: Count | None = None) -> None:
        self.f, self.kept = f_assumed, kept

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = malicious_uploads("multi_krum", self.f, len(uploads), round, each=2, more=3)
        scores = krum_scores(squared_distances(uploads), len(uploads) - f - 2)
        return uploads[scores.argsort()[: self.kept or len(uploads) - f]].mean(dim=0)
