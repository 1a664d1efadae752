"""Bucketing: uploads are averaged in small random groups before any rule aggregates (Karimireddy et al., ICLR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import positive
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Bucketing(FederatedDefense):
    """Puts the uploads in random buckets of ``size`` and hands on each bucket's mean, so that uploads of parties with
    different data come nearer to each other, at the price of a larger share of spoilt rows.

    Karimireddy, He, Jaggi, *Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing*, ICLR 2022, algorithm 1.
    A pre-aggregator: stack it with a rule, ``defense=[bucketing,coordinate_median]``. The rule gets ceil(n / size)
    rows, which are no single party's: rules that remember parties refuse them.

    Args:
        size: s, uploads in a bucket; the last one may hold fewer.
    """

    def __init__(self, *, size: int) -> None:
        positive("bucketing.size", size)
        self.size = size

    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        order = torch.randperm(len(uploads), generator=round.rng).to(uploads.device)
        return torch.stack([bucket.mean(dim=0) for bucket in uploads[order].split(self.size)])
