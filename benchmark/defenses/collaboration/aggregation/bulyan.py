"""Bulyan: Krum selects, then a trimmed mean around the median of each coordinate (El Mhamdi et al., ICML 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.defenses.collaboration.aggregation.krum import at_least, krum_scores, not_negative
from benchmark.defenses.collaboration.aggregation.ranks import by_columns, ranked
from benchmark.metrics.distances import squared_distances
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Bulyan(FederatedDefense):
    """Selects n - 2f uploads by repeated Krum, then gives in each coordinate the mean of the n - 4f values that are
    nearest to the selected ones' median.

    El Mhamdi, Guerraoui, Rouault, *The Hidden Vulnerability of Distributed Learning in Byzantium*, ICML 2018,
    section 4. Needs n >= 4f + 3. Towards the end of the selection Krum's number of neighbours, n' - f - 2 for n'
    uploads left, falls to f - 1; we keep it at 1 at least, so that f = 1 is defined.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
    """

    def __init__(self, *, f_assumed: int) -> None:
        self.f = not_negative("bulyan", f_assumed)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        at_least("bulyan", len(uploads), 4 * self.f + 3, "4 f + 3", self.f)
        selected = self._select(squared_distances(uploads)).tolist()

        def mean(rows: list[Tensor]) -> Tensor:
            ordered = ranked([rows[i] for i in selected], 0, len(selected), ordered=True)
            return mean_of_nearest(ordered, len(rows) - 4 * self.f)

        return by_columns(uploads, mean)

    def _select(self, distances: Tensor) -> Tensor:
        """Rows of the n - 2f uploads that Krum picks one after the other, from distances (n, n)."""
        left = torch.arange(len(distances), device=distances.device)
        picked = []
        for _ in range(len(distances) - 2 * self.f):
            scores = krum_scores(distances[left][:, left], max(1, len(left) - self.f - 2))
            best = scores.argmin()
            picked.append(left[best])
            left = torch.cat([left[:best], left[best + 1 :]])
        return torch.stack(picked)


def mean_of_nearest(ordered: list[Tensor], count: int) -> Tensor:
    """The mean (c,) of the ``count`` values nearest to the median in each coordinate of rows (c,) in ascending order.

    Such values have successive ranks. The window of ranks moves up while the value that it would gain is nearer than
    the one it would lose; ``window[k]`` is the value whose rank is k modulo ``count``.
    """
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    window = ordered[:count]
    for lost, (below, above) in enumerate(zip(ordered, ordered[count:], strict=False)):
        window[lost % count] = torch.where(above - middle < middle - below, above, window[lost % count])
    return torch.stack(window).mean(dim=0)
