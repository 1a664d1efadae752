"""Coordinate-wise trimmed mean (Yin et al., ICML 2018)."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.defenses.collaboration.aggregation.ranks import mean_of_ranks
from benchmark.parameters import CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class TrimmedMean(FederatedDefense):
    """Aggregation rule that drops the f smallest and f largest values of each coordinate and averages the others.

    Yin et al., ICML 2018, definition 2. Needs n >= 2f + 1.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: CountOrZero | None = None) -> None:
        self.f = f_assumed

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = malicious_uploads("trimmed_mean", self.f, len(uploads), round, each=2, more=1)
        return mean_of_ranks(uploads, f, len(uploads) - f)
