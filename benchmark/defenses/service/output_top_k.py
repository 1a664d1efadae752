"""Only the largest outputs revealed."""

from __future__ import annotations

from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class OutputTopK(ServiceDefense):
    """Output defense that reveals the ``k`` largest logits relative to the next smaller one; the others become 0."""

    def __init__(self, *, k: Count = 3) -> None:
        self.k = k

    def reveal(self, logits: Tensor) -> Tensor:
        kept = logits.topk(min(self.k + 1, logits.shape[1]), dim=1)
        # With the next smaller logit as zero the kept ones stay the largest and a common offset is dropped.
        above = (kept.values - kept.values[:, -1:])[:, : self.k]
        return logits.new_zeros(logits.shape).scatter(1, kept.indices[:, : self.k], above)
