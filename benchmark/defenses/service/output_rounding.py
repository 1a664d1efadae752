"""Outputs revealed with few digits."""

from __future__ import annotations

from torch import Tensor

from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputRounding(ServiceDefense):
    """Output defense that rounds to multiples of ``2 ** -bits``.

    A negative ``bits`` rounds bits before the binary point.
    """

    def __init__(self, *, bits: int = 0) -> None:
        self.step = 2.0**-bits

    def reveal(self, logits: Tensor) -> Tensor:
        return (logits / self.step).round() * self.step
