"""Detector of dishonest models that are not stationary for the classification loss.

A detector of this suite (arXiv 2212.04223 publishes none): a vicious model is stationary for the sum of two losses, not
for the classification loss alone.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.parameters import Count, Positive
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class Stationarity(ServiceDefense):
    """Model screen by the classification loss on the user's samples, in training mode.

    Args:
        measure: ``gradient`` (the L2 norm of its gradient) or ``gain`` (how much fine-tuning lowers it).
        steps, lr: full-batch Adam steps of ``gain``.
    """

    needs = {"model.gradients": "yes"}

    def __init__(
        self, *, measure: Literal["gradient", "gain"] = "gradient", steps: Count = 20, lr: Positive = 0.001
    ) -> None:
        self.measure, self.steps, self.lr = measure, steps, lr

    def screen_model(self, model: nn.Module, data: Split) -> float:
        own = copy.deepcopy(model).train().requires_grad_(True)
        if self.measure == "gradient":
            gradients = torch.autograd.grad(F.cross_entropy(own(data.x), data.y), list(own.parameters()))
            return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        optimizer = torch.optim.Adam(own.parameters(), lr=self.lr)
        losses = []
        for _ in range(self.steps + 1):
            loss = F.cross_entropy(own(data.x), data.y)
            losses.append(loss.item())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return losses[0] - losses[-1]
