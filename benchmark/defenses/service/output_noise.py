"""Noise on the outputs that the user reveals."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.parameters import Positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputNoise(ServiceDefense):
    """Output defense that adds Gaussian noise of standard deviation ``std`` to every output.

    The noise is drawn anew at every call from the global state.
    """

    def __init__(self, *, std: Positive = 2.0) -> None:
        self.std = std

    def reveal(self, logits: Tensor) -> Tensor:
        return logits + self.std * torch.randn_like(logits)
