"""SignGuard: filter uploads by norm and by the shares of positive, zero and negative coordinates (ICDCS 2022)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from sklearn.cluster import MeanShift
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.parameters import NonNegative, Positive, Share
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.clipping import clip_rows

VERSION = 1


class SignGuard(FederatedDefense):
    """Aggregation rule that averages uploads of usual norm whose sign statistics lie in the largest cluster.

    The kept uploads are clipped to the median norm. Xu, Huang, Song, Lan, *Byzantine-robust Federated Learning through
    Collaborative Malicious Gradient Filtering*, ICDCS 2022, algorithm 2, plain form (without the cosine or distance
    feature of SignGuard-Sim and -Dist). If no upload passes both filters, all of usual norm are kept.

    Args:
        shortest, longest: bounds of an upload's norm, as multiples of the median norm.
        share: of the coordinates, drawn at random each round, whose signs are counted.
    """

    def __init__(self, *, shortest: NonNegative = 0.1, longest: Positive = 3.0, share: Share = 0.1) -> None:
        if not 0 <= shortest < longest or not 0 < share <= 1:
            raise ConfigError(
                "defense.signguard needs 0 <= shortest < longest and 0 < share <= 1, "
                f"got {shortest}, {longest} and {share}."
            )
        self.shortest, self.longest, self.share = shortest, longest, share

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        norms = uploads.norm(dim=1)
        median = norms.nanmedian()
        usual = (norms >= self.shortest * median) & (norms <= self.longest * median)
        count = max(1, int(self.share * uploads.shape[1]))
        sample = torch.randperm(uploads.shape[1], generator=round.rng)[:count].to(uploads.device)
        kept = usual & largest_cluster(sign_shares(uploads[:, sample]))
        kept = kept if kept.any() else usual
        return clip_rows(uploads[kept], float(median)).sum(dim=0) / kept.sum().clamp_min(1)


def sign_shares(rows: Float[Tensor, "n b"]) -> Float[Tensor, "n 3"]:
    """Return the shares (n, 3) of positive, zero and negative coordinates of rows (n, b)."""
    return torch.stack([(rows > 0), (rows == 0), (rows < 0)]).double().mean(dim=2).T


def largest_cluster(features: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
    """Return bool (n,): the rows of (n, k) in the largest cluster of mean shift with its default bandwidth."""
    if len(features.unique(dim=0)) == 1:  # one point has no bandwidth
        return torch.ones(len(features), dtype=torch.bool, device=features.device)
    found = torch.as_tensor(MeanShift().fit_predict(features.cpu().numpy()), device=features.device)
    return found == found.bincount().argmax()
