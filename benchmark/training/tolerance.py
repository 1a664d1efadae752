"""Tolerance of a model to noise on its weights."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.metrics.classification import accuracy
from benchmark.seeds import normal_like
from benchmark.training.functional import Net

AMOUNTS = (0.1, 0.3, 0.5, 1.0)
DRAWS = 5


@torch.no_grad()
def tolerance_curve(
    net: Net, params: Float[Tensor, " d"], x: Float[Tensor, "n ..."], y: Int[Tensor, " n"], rng: torch.Generator
) -> list[float]:
    """Return accuracy on (x, y) under W_l + a x rms(W_l) x N(0, I) in every tensor l, for each a of ``AMOUNTS``.

    Returns:
        Means over ``DRAWS`` draws, each in [0, 1].
    """
    scale = torch.empty_like(params)
    for part in net.layout.slices().values():
        scale[part] = params[part].square().mean().sqrt()
    return [
        sum(accuracy(net.logits(params + a * scale * normal_like(params, rng), x), y) for _ in range(DRAWS)) / DRAWS
        for a in AMOUNTS
    ]
