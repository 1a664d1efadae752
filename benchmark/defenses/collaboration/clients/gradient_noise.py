"""Independent noise on every coordinate of an upload."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class GradientNoise(FederatedDefense):
    """Client defense that adds noise of standard deviation ``std`` (gradient units); no DP guarantee, see ``dp_sgd``.

    Args:
        distribution: ``gaussian`` or ``laplace``.
    """

    def __init__(self, *, std: float = 0.1, distribution: str = "gaussian") -> None:
        if std < 0:
            raise ConfigError(f"gradient_noise.std must be at least 0, got {std}.")
        if distribution not in ("gaussian", "laplace"):
            raise ConfigError(f"gradient_noise.distribution is gaussian or laplace, not {distribution!r}.")
        self.std, self.distribution = std, distribution

    def facts(self) -> dict[str, Any]:
        return {"noise_std": self.std}

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        if self.distribution == "gaussian":
            return updates + self.std * normal_like(updates, round.rng)
        uniform = torch.rand(updates.shape, generator=round.rng, dtype=updates.dtype).to(updates.device) - 0.5
        laplace = -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp_max(0.5 - 1e-7))
        return updates + self.std / 2**0.5 * laplace
