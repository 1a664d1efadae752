"""Independent noise on every coordinate of an upload."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.parameters import NonNegative
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class GradientNoise(FederatedDefense):
    """Client defense that adds noise of standard deviation ``std`` (gradient units); no DP guarantee, see ``dp_sgd``.

    Args:
        distribution: ``gaussian`` or ``laplace``.
    """

    def __init__(self, *, std: NonNegative = 0.1, distribution: Literal["gaussian", "laplace"] = "gaussian") -> None:
        self.std, self.distribution = std, distribution

    def facts(self) -> dict[str, Any]:
        return {"noise_std": self.std}

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        if self.distribution == "gaussian":
            return updates + self.std * normal_like(updates, round.rng)
        uniform = torch.rand(updates.shape, generator=round.rng, dtype=updates.dtype).to(updates.device) - 0.5
        laplace = -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp_max(0.5 - 1e-7))
        return updates + self.std / 2**0.5 * laplace
