"""Probabilities revealed in place of logits."""

from __future__ import annotations

from torch import Tensor

from benchmark.errors import positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputSoftmax(ServiceDefense):
    """Output defense that reveals the softmax of the logits over ``temperature``, which drops their common offset."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        positive("output_softmax.temperature", temperature)
        self.temperature = temperature

    def reveal(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).softmax(dim=1)
