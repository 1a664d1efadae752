"""Uploads rounded to few levels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.settings.collaboration.rounds import BYTES_PER_FLOAT

VERSION = 1
BITS = {"sign": 1, "int8": 8, "fp16": 16}


class GradientQuantisation(FederatedDefense):
    """Client defense that rounds every coordinate of an upload.

    Args:
        method: ``sign`` (Bernstein et al. 2018, scaled by the tensor's mean magnitude), ``int8`` (255 even levels over
            the range of each parameter tensor, to the nearest) or ``fp16``.
    """

    def __init__(self, *, method: Literal["sign", "int8", "fp16"] = "sign") -> None:
        self.method = method

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        saved = BYTES_PER_FLOAT - BITS[self.method] / 8
        round.send(bytes_sent=-updates.numel() * saved, messages=0)
        if self.method == "fp16":
            return updates.half().to(updates)
        if self.method == "sign":
            round.publish(signs=True)
        parts = [self._rounded(updates[:, part]) for part in round.layout.slices().values()]
        return torch.cat(parts, dim=1)

    def _rounded(self, rows: Tensor) -> Tensor:
        if self.method == "sign":
            return rows.sign() * rows.abs().mean(dim=1, keepdim=True)
        step = rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-20) / 127
        return (rows / step).round() * step
