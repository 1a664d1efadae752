"""Bound on the L2 norm of every upload."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmark.parameters import Positive
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.clipping import clip_rows

VERSION = 1


class GradientClipping(FederatedDefense):
    """Client defense that scales an upload down to L2 norm ``max_norm`` (gradient units).

    Its direction stays, so attacks that match gradients by cosine are not affected.
    """

    def __init__(self, *, max_norm: Positive = 0.5) -> None:
        self.max_norm = max_norm

    def facts(self) -> dict[str, Any]:
        return {"clip_norm": self.max_norm}

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return clip_rows(updates, self.max_norm)
