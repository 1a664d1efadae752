"""Divide and conquer: drop uploads that deviate along the direction of greatest variance (NDSS 2021)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.errors import ConfigError
from benchmark.metrics.distances import inner_products
from benchmark.parameters import Count, CountOrZero, Positive
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 2


class DnC(FederatedDefense):
    """Aggregation rule that drops outliers along the top singular vector of the centred uploads.

    On each of several random samples of the coordinates it drops the c f uploads with the largest projections on that
    vector, and it averages the uploads that no sample dropped. Shejwalkar, Houmansadr, *Manipulating the Byzantine:
    Optimizing Model Poisoning Attacks and Defenses for Federated Learning*, NDSS 2021, algorithm 2. The squared
    projections are proportional to the squared entries of the top eigenvector of the (n, n) Gram matrix of the centred
    uploads. A non-finite upload counts as dropped; if all are dropped, all are kept. Needs n >= 2f + 1.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`.
        filter_factor: c, uploads dropped for each assumed malicious one.
        coordinates: in each sample.
        samples: number of samples of coordinates.
    """

    def __init__(
        self,
        *,
        f_assumed: CountOrZero | None = None,
        filter_factor: Positive = 1.0,
        coordinates: Count = 1000,
        samples: Count = 5,
    ) -> None:
        self.f, self.filter_factor = f_assumed, filter_factor
        self.coordinates, self.samples = coordinates, samples

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = malicious_uploads("dnc", self.f, len(uploads), round, each=2, more=1)
        dropped = int(self.filter_factor * f + 0.5)
        if dropped >= len(uploads):
            raise ConfigError(
                f"dnc with f_assumed={f} drops {dropped} of {len(uploads)} uploads; lower defense.dnc.filter_factor."
            )
        finite = uploads.isfinite().all(dim=1).nonzero().squeeze(1)
        not_dropped = torch.ones(len(finite), dtype=torch.bool, device=uploads.device)
        for _ in range(self.samples):
            sample = torch.randperm(uploads.shape[1], generator=round.rng)[: self.coordinates]
            outliers = squared_projections(uploads[finite][:, sample.to(uploads.device)])
            not_dropped[outliers.argsort(descending=True)[:dropped]] = False
        kept = finite[not_dropped] if not_dropped.any() else torch.arange(len(uploads), device=uploads.device)
        return uploads[kept].mean(dim=0)


def squared_projections(rows: Float[Tensor, "n b"]) -> Float[Tensor, " n"]:
    """Return squared projections (n,) of centred rows (n, b) on their top singular vector, up to a factor."""
    if not len(rows):
        return rows.new_zeros(0)
    return torch.linalg.eigh(inner_products(rows, rows.mean(dim=0))).eigenvectors[:, -1].square()
