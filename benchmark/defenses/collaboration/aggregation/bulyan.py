"""Bulyan: selection by Krum, then a trimmed mean around the coordinate-wise median (El Mhamdi et al., ICML 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.defenses.collaboration.aggregation.krum import krum_scores
from benchmark.defenses.collaboration.aggregation.ranks import map_blocks, values_of_ranks
from benchmark.metrics.distances import squared_distances
from benchmark.parameters import CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Bulyan(FederatedDefense):
    """Aggregation rule that selects n - 2f uploads by repeated Krum and takes a trimmed mean of them.

    In each coordinate it averages the n - 4f selected values nearest to their median. El Mhamdi, Guerraoui, Rouault,
    *The Hidden Vulnerability of Distributed Learning in Byzantium*, ICML 2018, section 4. Needs n >= 4f + 3.
    Deviation: towards the end of the selection Krum's number of neighbours, n' - f - 2 for n' remaining uploads, falls
    to f - 1; it is kept at 1 at least, so that f = 1 is defined.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: CountOrZero | None = None) -> None:
        self.f = f_assumed

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = malicious_uploads("bulyan", self.f, len(uploads), round, each=4, more=3)
        selected = krum_picks(squared_distances(uploads), f).tolist()

        def mean(rows: list[Tensor]) -> Tensor:
            ordered = values_of_ranks([rows[i] for i in selected], 0, len(selected), ordered=True)
            return mean_of_nearest(ordered, len(rows) - 4 * f)

        return map_blocks(uploads, mean)


def krum_picks(distances: Tensor, f: int) -> Tensor:
    """Return the rows of the n - 2f uploads that Krum picks one after the other, from distances (n, n)."""
    remaining = torch.arange(len(distances), device=distances.device)
    picked = []
    for _ in range(len(distances) - 2 * f):
        scores = krum_scores(distances[remaining][:, remaining], max(1, len(remaining) - f - 2))
        best = scores.argmin()
        picked.append(remaining[best])
        remaining = torch.cat([remaining[:best], remaining[best + 1 :]])
    return torch.stack(picked)


def mean_of_nearest(ordered: list[Tensor], count: int) -> Tensor:
    """Return the mean (c,) of the ``count`` values nearest to the median in each coordinate of rows (c,) in ascending
    order.

    These values have consecutive ranks. The window of ranks moves up while the value to be added is nearer than the one
    to be removed; ``window[k]`` is the value whose rank is k modulo ``count``.
    """
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    window = ordered[:count]
    for removed, (below, above) in enumerate(zip(ordered, ordered[count:], strict=False)):
        window[removed % count] = torch.where(above - middle < middle - below, above, window[removed % count])
    return torch.stack(window).mean(dim=0)
