"""Bucketing: average uploads in small random groups before any rule aggregates (Karimireddy et al., ICLR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Bucketing(FederatedDefense):
    """Pre-aggregator that replaces the uploads by the means of random buckets of ``size`` uploads.

    Uploads of parties with different data come closer to each other, but a larger share of the rows is corrupted.

    Karimireddy, He, Jaggi, *Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing*, ICLR 2022, algorithm 1.
    Stack it with a rule, ``defense=[bucketing,coordinate_median]``. The rule gets ceil(n / size) rows, none of which
    belongs to a single party: rules that keep a history of parties refuse them.

    Args:
        size: s, uploads in a bucket; the last one may hold fewer.
    """

    def __init__(self, *, size: Count = 2) -> None:
        self.size = size

    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        order = torch.randperm(len(uploads), generator=round.rng).to(uploads.device)
        return torch.stack([bucket.mean(dim=0) for bucket in uploads[order].split(self.size)])
