"""Training that tolerates noise: every local gradient is taken at perturbed weights.

A variant of noise tolerance, after Gilbert 2022 (arXiv 2211.06324); a reconstruction, to be stacked with
:mod:`~.noise_tolerance`. Noise injection into weights is an old regulariser (An 1996); here it should make the model
tolerate the noise that parties add to their updates.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.parameters import NonNegative
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, LocalStep

VERSION = 1


class TolerantTraining(FederatedDefense):
    """Client defense that takes the gradient at W_l + amount x rms(W_l) x N(0, I) and the step from W_l, by tensor l.

    Args:
        amount: beta, at least 0.
    """

    def __init__(self, *, amount: NonNegative = 0.3) -> None:
        self.amount = amount

    def local_step(self, step: LocalStep) -> Tensor:
        return step.net.gradient(perturbed_parameters(step, self.amount), step.x, step.y)


def perturbed_parameters(step: LocalStep, amount: float) -> Float[Tensor, " d"]:
    """Return the step's parameters (d,) with relative noise in every tensor."""
    scale = torch.empty_like(step.params)
    for part in step.net.layout.slices().values():
        scale[part] = step.params[part].square().mean().sqrt()
    return step.params + amount * scale * normal_like(step.params, step.rng)
