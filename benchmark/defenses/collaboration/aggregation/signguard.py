"""SignGuard: a filter by length and by the share of positive, zero and negative coordinates (ICDCS 2022)."""

from __future__ import annotations

import torch
from sklearn.cluster import MeanShift
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.clipping import clip_rows

VERSION = 1


class SignGuard(FederatedDefense):
    """Keeps uploads of about the median length whose signs are those of the largest cluster; gives the mean of them,
    clipped to the median length.

    Xu, Huang, Song, Lan, *Byzantine-robust Federated Learning through Collaborative Malicious Gradient Filtering*,
    ICDCS 2022, algorithm 2, plain form (without the cosine or distance feature of SignGuard-Sim and -Dist). Where both
    filters have no upload in common, all of median length are kept.

    Args:
        shortest, longest: bounds of an upload's length, as multiples of the median.
        share: of the coordinates, drawn at random each round, whose signs are counted.
    """

    def __init__(self, *, shortest: float, longest: float, share: float) -> None:
        if not 0 <= shortest < longest or not 0 < share <= 1:
            raise ConfigError(
                "defense.signguard needs 0 <= shortest < longest and 0 < share <= 1, "
                f"got {shortest}, {longest} and {share}."
            )
        self.shortest, self.longest, self.share = shortest, longest, share

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        lengths = uploads.norm(dim=1)
        median = lengths.nanmedian()
        usual = (lengths >= self.shortest * median) & (lengths <= self.longest * median)
        count = max(1, int(self.share * uploads.shape[1]))
        sample = torch.randperm(uploads.shape[1], generator=round.rng)[:count].to(uploads.device)
        kept = usual & largest_cluster(sign_shares(uploads[:, sample]))
        kept = kept if kept.any() else usual
        return clip_rows(uploads[kept], float(median)).sum(dim=0) / kept.sum().clamp_min(1)


def sign_shares(rows: Tensor) -> Tensor:
    """(n, b) -> (n, 3): the shares of positive, zero and negative coordinates of each row."""
    return torch.stack([(rows > 0), (rows == 0), (rows < 0)]).double().mean(dim=2).T


def largest_cluster(features: Tensor) -> Tensor:
    """bool (n,): which rows of (n, k) are in the largest cluster that mean shift finds with its own bandwidth."""
    if len(features.unique(dim=0)) == 1:  # one point has no bandwidth
        return torch.ones(len(features), dtype=torch.bool, device=features.device)
    found = torch.as_tensor(MeanShift().fit_predict(features.cpu().numpy()), device=features.device)
    return found == found.bincount().argmax()
