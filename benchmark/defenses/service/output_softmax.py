"""The user reveals probabilities in place of logits."""

from __future__ import annotations

from torch import Tensor

from benchmark.errors import positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputSoftmax(ServiceDefense):
    """Softmax of the logits over ``temperature``; drops their common offset, squeezes what is far from the top."""

    def __init__(self, *, temperature: float) -> None:
        positive("output_softmax.temperature", temperature)
        self.temperature = temperature

    def reveal(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).softmax(dim=1)
