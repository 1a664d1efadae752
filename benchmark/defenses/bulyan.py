"""Bulyan: Krum selects, then a trimmed mean around the median of each coordinate (El Mhamdi et al., ICML 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.defenses.base import Defense, Round
from benchmark.defenses.krum import at_least, krum_scores, not_negative
from benchmark.metrics.distances import squared_distances

VERSION = 1


class Bulyan(Defense):
    """Selects n - 2f uploads by repeated Krum, then gives in each coordinate the mean of the n - 4f values that are
    nearest to the selected ones' median.

    El Mhamdi, Guerraoui, Rouault, *The Hidden Vulnerability of Distributed Learning in Byzantium*, ICML 2018,
    section 4. Needs n >= 4f + 3. Towards the end of the selection Krum's number of neighbours, n' - f - 2 for n'
    uploads left, falls to f - 1; we keep it at 1 at least, so that f = 1 is defined.

    Args:
        f_assumed: as for :class:`benchmark.defenses.krum.Krum`.
    """

    def __init__(self, *, f_assumed: int) -> None:
        self.f = not_negative("bulyan", f_assumed)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        at_least("bulyan", len(uploads), 4 * self.f + 3, "4 f + 3", self.f)
        selected = uploads[self._select(squared_distances(uploads))].sort(dim=0).values
        distance = (selected - middle(selected)).abs()
        nearest = distance.topk(len(uploads) - 4 * self.f, dim=0, largest=False).indices
        return selected.gather(0, nearest).mean(dim=0)

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


def middle(ordered: Tensor) -> Tensor:
    """The median (d,) of rows (n, d) that are sorted in each column; of an even number, the mean of the middle two."""
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
