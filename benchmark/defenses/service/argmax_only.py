"""Labels only: the user reveals the predicted class and nothing else."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class ArgmaxOnly(ServiceDefense):
    """Output defense that makes outputs one-hot, the least that still tells the prediction."""

    def reveal(self, logits: Tensor) -> Tensor:
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
