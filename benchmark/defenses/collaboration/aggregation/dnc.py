"""Divide and conquer: uploads that stick out along the direction of greatest spread are dropped (NDSS 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.defenses.collaboration.aggregation.krum import at_least, not_negative
from benchmark.errors import positive
from benchmark.metrics.distances import inner_products
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class DnC(FederatedDefense):
    """Drops, on each of several random samples of the coordinates, the c f uploads with the largest projections on the
    top singular vector of the centred uploads; gives the mean of those that no sample dropped.

    Shejwalkar, Houmansadr, *Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated
    Learning*, NDSS 2021, algorithm 2. The projections are read off the top eigenvector of the (n, n) Gram matrix of the
    centred uploads, to whose square they are proportional. An upload that is not finite counts as dropped; where none
    is left, all are kept.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
        filter_factor: c, how many uploads are dropped for each assumed malicious one.
        coordinates: of each sample; samples: how many.
    """

    def __init__(self, *, f_assumed: int, filter_factor: float, coordinates: int, samples: int) -> None:
        for name, value in (("filter_factor", filter_factor), ("coordinates", coordinates), ("samples", samples)):
            positive(f"dnc.{name}", value)
        self.f = not_negative("dnc", f_assumed)
        self.dropped = round(filter_factor * self.f)
        self.coordinates, self.samples = coordinates, samples

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        at_least("dnc", len(uploads), self.dropped + 1, "filter_factor f + 1", self.f)
        finite = uploads.isfinite().all(dim=1).nonzero().squeeze(1)
        good = torch.ones(len(finite), dtype=torch.bool, device=uploads.device)
        for _ in range(self.samples):
            sample = torch.randperm(uploads.shape[1], generator=round.rng)[: self.coordinates]
            outliers = projections(uploads[finite][:, sample.to(uploads.device)])
            good[outliers.argsort(descending=True)[: self.dropped]] = False
        kept = finite[good] if good.any() else torch.arange(len(uploads), device=uploads.device)
        return uploads[kept].mean(dim=0)


def projections(rows: Tensor) -> Tensor:
    """Squared projections of centred rows (n, b) on their top singular vector, but for a common factor: (n,)."""
    if not len(rows):
        return rows.new_zeros(0)
    return torch.linalg.eigh(inner_products(rows, rows.mean(dim=0))).eigenvectors[:, -1].square()
