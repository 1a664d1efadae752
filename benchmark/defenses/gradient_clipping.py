"""A bound on the L2 norm of every upload."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmark.defenses.base import Defense, Round
from benchmark.errors import positive

VERSION = 1


class GradientClipping(Defense):
    """Scales an upload down to L2 norm ``max_norm`` (gradient units); its direction stays, which is why cosine matching
    does not notice."""

    def __init__(self, *, max_norm: float) -> None:
        positive("gradient_clipping.max_norm", max_norm)
        self.max_norm = max_norm

    def facts(self) -> dict[str, Any]:
        return {"clip_norm": self.max_norm}

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return clip_rows(updates, self.max_norm)


def clip_rows(rows: Tensor, max_norm: float) -> Tensor:
    """(n, d) -> (n, d) with every row's L2 norm at most ``max_norm`` (Abadi et al. 2016, Algorithm 1)."""
    return rows * (max_norm / rows.norm(dim=1, keepdim=True).clamp_min(1e-20)).clamp_max(1)
