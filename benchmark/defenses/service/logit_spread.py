"""A detector of dishonest models: outputs of one class that differ more than classification needs.

Not by the authors of *Vicious Classifiers* (arXiv 2212.04223), who announce a detector without publishing it. Idea:
cross-entropy alone pulls the logits of a class together, while rebuilding an input needs variation within its class.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.metrics.scatter import scatter
from benchmark.settings.service.defense import ServiceDefense
from benchmark.training.loop import predict

VERSION = 1


class LogitSpread(ServiceDefense):
    """The model's suspicion is trace(within-class scatter) / trace(between-class scatter) of its centred logits."""

    def screen_model(self, model: nn.Module, data: Split) -> float:
        return spread(predict(model, data.x), data.y)


def spread(logits: Tensor, y: Tensor) -> float:
    """Within-class over between-class scatter of logits (n, classes) with labels (n,), in [0, inf).

    Each row is centred first, for a common offset of all logits changes no prediction.
    """
    within, between = scatter(logits, y)
    return within.item() / max(between.item(), 1e-12)
