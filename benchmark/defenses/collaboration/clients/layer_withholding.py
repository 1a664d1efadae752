"""Updates of some layers never leave the parties, so that these layers stay frozen.

The layer-wise protection that layer-wise leakage measures suggest (Mo et al., arXiv 2105.13929 and 2010.08762).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.settings.collaboration.rounds import BYTES_PER_FLOAT
from benchmark.training.functional import Layout
from benchmark.training.layers import layer_mask, select_layers

VERSION = 1


class LayerWithholding(FederatedDefense):
    """Client defense that uploads zeros for the chosen layers.

    The choice is public, and the global model keeps the initial weights of these layers.

    Args:
        layers: names (``conv1``, ``fc2``, ...), ``first``, ``last`` or ``fc``; see :mod:`benchmark.training.layers`.
    """

    def __init__(self, *, layers: Sequence[str] = ("first",)) -> None:
        self.layers = layers
        self.sent: Tensor | None = None

    def start(self, parties: int, layout: Layout) -> None:
        self.sent = ~layer_mask(layout, select_layers(layout, self.layers, "layer_withholding.layers"))

    def facts(self) -> dict[str, Any]:
        return {} if self.sent is None else {"mask": self.sent}

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        assert self.sent is not None
        sent = self.sent.to(updates.device)
        round.send(bytes_sent=-len(updates) * float((~sent).sum()) * BYTES_PER_FLOAT, messages=0)
        return torch.where(sent, updates, 0.0)
