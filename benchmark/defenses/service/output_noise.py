"""The user adds noise to what is revealed."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputNoise(ServiceDefense):
    """Gaussian noise of standard deviation ``std`` on every output, drawn anew at every call from the global state."""

    def __init__(self, *, std: float) -> None:
        positive("output_noise.std", std)
        self.std = std

    def reveal(self, logits: Tensor) -> Tensor:
        return logits + self.std * torch.randn_like(logits)
