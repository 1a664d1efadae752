"""The user reveals outputs with few digits."""

from __future__ import annotations

from torch import Tensor

from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputRounding(ServiceDefense):
    """Outputs rounded to multiples of ``2 ** -bits``: so many bits after the point, before it where negative."""

    def __init__(self, *, bits: int) -> None:
        self.step = 2.0**-bits

    def reveal(self, logits: Tensor) -> Tensor:
        return (logits / self.step).round() * self.step
