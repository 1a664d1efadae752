"""Mean around the coordinate-wise median (Xie, Koyejo, Gupta, 2018)."""

from __future__ import annotations

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.defenses.collaboration.aggregation.bulyan import mean_of_nearest
from benchmark.defenses.collaboration.aggregation.ranks import map_blocks, values_of_ranks
from benchmark.parameters import CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Meamed(FederatedDefense):
    """Aggregation rule that averages, in each coordinate, the n - f values nearest to the median.

    Xie, Koyejo, Gupta, *Generalized Byzantine-tolerant SGD*, arXiv 1802.10116, definition 7 ("mean around median").
    Needs n >= 2f + 1.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: CountOrZero | None = None) -> None:
        self.f = f_assumed

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = malicious_uploads("meamed", self.f, len(uploads), round, each=2, more=1)

        def mean(rows: list[Tensor]) -> Tensor:
            return mean_of_nearest(values_of_ranks(rows, 0, len(rows), ordered=True), len(rows) - f)

        return map_blocks(uploads, mean)
