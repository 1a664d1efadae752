"""Some layers' updates never leave the parties, so that those layers stay as they are: freezing, withholding.

The layer-wise protection that layer-wise measures suggest (Mo et al., arXiv 2105.13929 and 2010.08762).
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
    """Uploads zeros for the chosen layers. Which they are is public, and the global model keeps their first weights.

    Args:
        layers: names (``conv1``, ``fc2``, ...), ``first``, ``last`` or ``fc``; see :mod:`benchmark.training.layers`.
    """

    def __init__(self, *, layers: Sequence[str]) -> None:
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
