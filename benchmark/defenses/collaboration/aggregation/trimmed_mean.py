"""The mean of each coordinate without its extremes (Yin et al., ICML 2018)."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.krum import at_least, not_negative
from benchmark.defenses.collaboration.aggregation.ranks import mean_of_ranks
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class TrimmedMean(FederatedDefense):
    """Drops the f smallest and the f largest values of each coordinate and gives the mean of the others.

    Yin et al., ICML 2018, definition 2. Needs n >= 2f + 1.

    Args:
        f_assumed: malicious parties among the uploads of a round that the server prepares for.
    """

    def __init__(self, *, f_assumed: int) -> None:
        self.f = not_negative("trimmed_mean", f_assumed)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        at_least("trimmed_mean", len(uploads), 2 * self.f + 1, "2 f + 1", self.f)
        return mean_of_ranks(uploads, self.f, len(uploads) - self.f)
