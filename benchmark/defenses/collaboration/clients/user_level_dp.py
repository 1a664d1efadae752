"""Differential privacy for all data of a party: clipped uploads and noise on their mean.

McMahan, Ramage, Talwar, Zhang, *Learning Differentially Private Recurrent Language Models*, ICLR 2018 (DP-FedAvg), with
the noise added by a trusted server. Against the server itself only the clipping acts; against participants all of it.
Deviation: the accountant claims no amplification by sampling parties, which a fixed rotation of parties does not give.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.parameters import NonNegative, Positive, Rate
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.accounting import gaussian_epsilon
from benchmark.training.clipping import clip_rows
from benchmark.training.functional import Layout

VERSION = 1


class UserLevelDP(FederatedDefense):
    """Client and server defense DP-FedAvg.

    Args:
        max_norm: S, bound on the L2 norm of a party's update, in gradient units.
        noise_multiplier: standard deviation of the noise on the sum of updates, over S.
        delta: at which epsilon is reported.
    """

    def __init__(self, *, max_norm: Positive = 1.0, noise_multiplier: NonNegative = 0.1, delta: Rate = 1e-5) -> None:
        self.max_norm, self.noise_multiplier, self.delta = max_norm, noise_multiplier, delta

    def facts(self) -> dict[str, Any]:
        return {"clip_norm": self.max_norm}

    def start(self, parties: int, layout: Layout) -> None:
        self.uploads = torch.zeros(parties, dtype=torch.int64)

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        self.uploads[round.parties] += 1
        return clip_rows(updates, self.max_norm)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        mean = uploads.mean(dim=0)
        return mean + self.noise_multiplier * self.max_norm / len(uploads) * normal_like(mean, round.rng)

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float]:
        """Return (epsilon, delta) for adding or removing the party that uploaded most often."""
        rounds = int(self.uploads.max())
        return gaussian_epsilon(noise_multiplier=self.noise_multiplier, steps=rounds, delta=self.delta), self.delta
