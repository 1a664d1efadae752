"""Encrypted updates of some layers, which the server adds up without reading them.

Selective encryption as an ideal functionality: the server sees zeros in place of encrypted coordinates and the parties
decrypt the mean. The cryptography (a homomorphic scheme, or the masks of ``secure_aggregation``) and its cost are left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout
from benchmark.training.layers import layer_mask, select_layers

VERSION = 1


class LayerEncryption(FederatedDefense):
    """Client defense that hides the updates of the chosen layers from the server but still trains these layers.

    Args:
        layers: names (``conv1``, ``fc2``, ...), ``first``, ``last`` or ``fc``; see :mod:`benchmark.training.layers`.
    """

    def __init__(self, *, layers: Sequence[str] = ("first",)) -> None:
        self.layers = layers
        self.readable: Tensor | None = None
        self.hidden: Tensor | None = None

    def start(self, parties: int, layout: Layout) -> None:
        self.readable = ~layer_mask(layout, select_layers(layout, self.layers, "layer_encryption.layers"))

    def facts(self) -> dict[str, Any]:
        return {} if self.readable is None else {"mask": self.readable}

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        assert self.readable is not None
        readable = self.readable.to(updates.device)
        self.hidden = torch.where(readable, 0.0, updates)
        return torch.where(readable, updates, 0.0)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        assert self.hidden is not None
        return uploads.mean(dim=0) + self.hidden[round.active].mean(dim=0)
