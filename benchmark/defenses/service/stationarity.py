"""A detector of dishonest models: they are not where training for the task alone would have left them.

Ours (spec of arXiv 2212.04223 has no detector): a vicious model is stationary for the sum of two losses, not for the
classification loss.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError, positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1
MEASURES = ("gradient", "gain")


class Stationarity(ServiceDefense):
    """Suspicion from the classification loss on the user's samples, in training mode.

    Args:
        measure: ``gradient`` (the L2 norm of its gradient) or ``gain`` (how much it falls by fine-tuning).
        steps, lr: full-batch Adam steps of ``gain``.
    """

    def __init__(self, *, measure: str, steps: int, lr: float) -> None:
        if measure not in MEASURES:
            raise ConfigError(f"stationarity.measure must be one of {list(MEASURES)}, got {measure!r}.")
        positive("stationarity.steps", steps)
        positive("stationarity.lr", lr)
        self.measure, self.steps, self.lr = measure, steps, lr

    def screen_model(self, model: nn.Module, data: Split) -> float:
        own = copy.deepcopy(model).train().requires_grad_(True)
        if self.measure == "gradient":
            slopes = torch.autograd.grad(F.cross_entropy(own(data.x), data.y), list(own.parameters()))
            return torch.cat([slope.flatten() for slope in slopes]).norm().item()
        optimizer = torch.optim.Adam(own.parameters(), lr=self.lr)
        losses = []
        for _ in range(self.steps + 1):
            loss = F.cross_entropy(own(data.x), data.y)
            losses.append(loss.item())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return losses[0] - losses[-1]
