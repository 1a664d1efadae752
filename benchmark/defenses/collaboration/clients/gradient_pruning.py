"""Sparse uploads: only the largest coordinates are sent."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.parameters import BelowOne
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class GradientPruning(FederatedDefense):
    """Client defense that zeroes the share ``ratio`` of smallest magnitudes in every parameter tensor.

    Zhu et al. 2019, section 5.2. The positions of the kept coordinates are public: they are the non-zero entries.
    """

    def __init__(self, *, ratio: BelowOne = 0.9) -> None:
        self.ratio = ratio

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        keep = torch.zeros_like(updates, dtype=torch.bool)
        for part in round.layout.slices().values():
            tensor = updates[:, part].abs()
            count = tensor.shape[1] - int(self.ratio * tensor.shape[1])
            keep[:, part] = torch.zeros_like(tensor, dtype=torch.bool).scatter(1, tensor.topk(count).indices, True)
        round.publish(mask=keep)
        return updates * keep
