"""Differentially private SGD on every party's records.

Abadi et al., *Deep Learning with Differential Privacy*, CCS 2016, Algorithm 1. Deviation: batches have a fixed size and
are drawn without replacement instead of by Poisson sampling; the accountant accounts for that.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmark.parameters import NonNegative, Positive, Rate
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, LocalStep
from benchmark.training.accounting import sampled_gaussian_epsilon
from benchmark.training.per_sample import clipped_sum

VERSION = 2


class DPSGD(FederatedDefense):
    """Client defense with per-sample clipping and Gaussian noise in every local step.

    Args:
        max_norm: clipping bound C of a sample's gradient (L2).
        noise_multiplier: standard deviation of the noise on the sum, over C.
        delta: at which epsilon is reported.
    """

    def __init__(self, *, max_norm: Positive = 1.0, noise_multiplier: NonNegative = 1.0, delta: Rate = 0.001) -> None:
        self.max_norm, self.noise_multiplier, self.delta = max_norm, noise_multiplier, delta

    def facts(self) -> dict[str, Any]:
        return {"clip_norm": self.max_norm}

    def local_step(self, step: LocalStep) -> Tensor:
        total = clipped_sum(step.net, step.params, step.x, step.y, self.max_norm)
        noise = self.noise_multiplier * self.max_norm * normal_like(total, step.rng)
        return (total + noise) / len(step.x)

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float]:
        spent = sampled_gaussian_epsilon(
            noise_multiplier=self.noise_multiplier,
            samples=samples,
            batch_size=batch_size,
            steps=steps,
            delta=self.delta,
        )
        return spent, self.delta
