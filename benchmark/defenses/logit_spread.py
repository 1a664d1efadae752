"""A detector of dishonest models: outputs of one class that differ more than classification needs.

Not by the authors of *Vicious Classifiers* (arXiv 2212.04223), who announce a detector without publishing it. Idea:
cross-entropy alone pulls the logits of a class together, while rebuilding an input needs variation within its class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.defenses.base import Defense
from benchmark.training.loop import predict

VERSION = 1


class LogitSpread(Defense):
    """The model's suspicion is trace(within-class scatter) / trace(between-class scatter) of its centred logits."""

    def screen_model(self, model: nn.Module, data: Split) -> float:
        return spread(predict(model, data.x), data.y)


def spread(logits: Tensor, y: Tensor) -> float:
    """Within-class over between-class scatter of logits (n, classes) with labels (n,), in [0, inf).

    Each row is centred first, for a common offset of all logits changes no prediction.
    """
    within, between = scatter(logits, y)
    return within.item() / max(between.item(), 1e-12)


def scatter(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The traces of the within-class and the between-class scatter of centred logits, two scalars."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    overall = centred.mean(dim=0)
    within = between = torch.zeros((), device=logits.device)
    for label in y.unique():
        own = centred[y == label]
        within = within + (own - own.mean(dim=0)).square().sum()
        between = between + len(own) * (own.mean(dim=0) - overall).square().sum()
    return within, between
