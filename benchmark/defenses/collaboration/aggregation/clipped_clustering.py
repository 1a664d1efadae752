"""Clipped clustering: mean of the larger of two clusters of uploads by angle (Li, Ngai, Voigt, IEEE TBD 2023)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor
from torch.nn import functional as F

from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.clipping import clip_rows
from benchmark.training.functional import Layout

VERSION = 1


class ClippedClustering(FederatedDefense):
    """Aggregation rule that averages the larger of two clusters of clipped uploads.

    Uploads are clipped to the median norm of all uploads so far and clustered in two by cosine distance (average
    linkage). Li, Ngai, Voigt, *An Experimental Study of Byzantine-Robust Aggregation Schemes in Federated Learning*,
    IEEE Transactions on Big Data 2023, section 4. It has no parameter.
    """

    def start(self, parties: int, layout: Layout) -> None:
        self.norms = torch.zeros(0)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        self.norms = torch.cat([self.norms, uploads.norm(dim=1).cpu()])
        clipped = clip_rows(uploads, float(self.norms.nanmedian()))
        return clipped[larger_cluster(clipped)].mean(dim=0)


def larger_cluster(rows: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    """Return bool (n,): the rows of (n, d) in the larger of two clusters by cosine distance; on a tie the first
    cluster.
    """
    if len(rows) < 3:
        return torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    unit = F.normalize(rows.double(), dim=1)
    distances = (1 - unit @ unit.T).nan_to_num(2.0).clamp(0, 2).fill_diagonal_(0)
    clusters = AgglomerativeClustering(2, metric="precomputed", linkage="average").fit_predict(distances.cpu().numpy())
    found = torch.as_tensor(clusters, device=rows.device)
    return found == found.bincount().argmax()
