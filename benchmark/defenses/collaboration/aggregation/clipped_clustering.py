"""Clipped clustering: the larger of two groups of uploads by angle (Li, Ngai, Voigt, IEEE TBD 2023)."""

from __future__ import annotations

import torch
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor
from torch.nn import functional as F

from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.clipping import clip_rows
from benchmark.training.functional import Layout

VERSION = 1


class ClippedClustering(FederatedDefense):
    """Clips uploads to the median length of all uploads so far, parts them in two by the cosines between them (average
    linkage) and gives the mean of the larger part.

    Li, Ngai, Voigt, *An Experimental Study of Byzantine-Robust Aggregation Schemes in Federated Learning*, IEEE
    Transactions on Big Data 2023, section 4. It has no parameter.
    """

    def start(self, parties: int, layout: Layout) -> None:
        self.lengths = torch.zeros(0)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        self.lengths = torch.cat([self.lengths, uploads.norm(dim=1).cpu()])
        clipped = clip_rows(uploads, float(self.lengths.nanmedian()))
        return clipped[larger_part(clipped)].mean(dim=0)


def larger_part(rows: Tensor) -> Tensor:
    """bool (n,): which rows (n, d) are in the larger of two clusters by cosine distance; of equal ones the first."""
    if len(rows) < 3:
        return torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    unit = F.normalize(rows.double(), dim=1)
    distances = (1 - unit @ unit.T).nan_to_num(2.0).clamp(0, 2).fill_diagonal_(0)
    parts = AgglomerativeClustering(2, metric="precomputed", linkage="average").fit_predict(distances.cpu().numpy())
    found = torch.as_tensor(parts, device=rows.device)
    return found == found.bincount().argmax()
