"""Detector of dishonest models whose outputs within a class differ more than classification needs.

A detector of this suite: the authors of *Vicious Classifiers* (arXiv 2212.04223) announce one without publishing it.
Cross-entropy alone pulls the logits of a class together, whereas reconstructing an input needs variation within its
class.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.metrics.scatter import scatter
from benchmark.settings.service.defense import ServiceDefense
from benchmark.training.loop import predict

VERSION = 1


class LogitSpread(ServiceDefense):
    """Model screen by trace(within-class scatter) / trace(between-class scatter) of the centred logits."""

    def screen_model(self, model: nn.Module, data: Split) -> float:
        return spread(predict(model, data.x), data.y)


def spread(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> float:
    """Return within-class over between-class scatter of logits (n, classes) with labels (n,), in [0, inf).

    Each row is centred first, because a common offset of all logits does not change a prediction.
    """
    within, between = scatter(logits, y)
    return within.item() / max(between.item(), 1e-12)
