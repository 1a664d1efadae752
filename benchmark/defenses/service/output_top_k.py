"""The user reveals the largest outputs only."""

from __future__ import annotations

from torch import Tensor

from benchmark.errors import positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputTopK(ServiceDefense):
    """The ``k`` largest logits as they are, relative to the k-th; all others become 0, so they tell nothing."""

    def __init__(self, *, k: int) -> None:
        positive("output_top_k.k", k)
        self.k = k

    def reveal(self, logits: Tensor) -> Tensor:
        kept = logits.topk(min(self.k + 1, logits.shape[1]), dim=1)
        # The next smaller one is the zero point: the kept ones stay the largest, and a common offset is dropped.
        above = (kept.values - kept.values[:, -1:])[:, : self.k]
        return logits.new_zeros(logits.shape).scatter(1, kept.indices[:, : self.k], above)
