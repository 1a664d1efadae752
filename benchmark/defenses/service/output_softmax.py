"""Probabilities revealed in place of logits."""

from __future__ import annotations

from torch import Tensor

from benchmark.parameters import Positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputSoftmax(ServiceDefense):
    """Output defense that reveals the softmax of the logits over ``temperature``, which drops their common offset."""

    def __init__(self, *, temperature: Positive = 1.0) -> None:
        self.temperature = temperature

    def reveal(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).softmax(dim=1)
