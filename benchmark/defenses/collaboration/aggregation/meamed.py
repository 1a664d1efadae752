"""The mean of each coordinate's values around the median (Xie, Koyejo, Gupta, 2018)."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.bulyan import mean_of_nearest
from benchmark.defenses.collaboration.aggregation.krum import at_least, not_negative
from benchmark.defenses.collaboration.aggregation.ranks import by_columns, ranked
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Meamed(FederatedDefense):
    """Gives in each coordinate the mean of the n - f values that are nearest to the median.

    Xie, Koyejo, Gupta, *Generalized Byzantine-tolerant SGD*, arXiv 1802.10116, definition 7 ("mean around median").
    Needs n >= 2f + 1.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: int) -> None:
        self.f = not_negative("meamed", f_assumed)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        at_least("meamed", len(uploads), 2 * self.f + 1, "2 f + 1", self.f)

        def mean(rows: list[Tensor]) -> Tensor:
            return mean_of_nearest(ranked(rows, 0, len(rows), ordered=True), len(rows) - self.f)

        return by_columns(uploads, mean)
