"""Logits multiplied by a constant: a control that imitates the effect of defensive distillation on the softmax.

A control of this suite, after Carlini and Wagner's analysis of arXiv 1511.04508: predictions, and so true robustness,
stay exactly the same, but the softmax saturates and gradients through it vanish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmark.data.base import Split
from benchmark.parameters import Positive
from benchmark.settings.deployment.defense import DeploymentDefense

VERSION = 1


class LogitScaling(DeploymentDefense):
    """Undefended classifier whose last layer is multiplied by ``factor`` after training."""

    needs = {"model.gradients": "yes"}

    def __init__(self, *, factor: Positive = 100.0) -> None:
        self.factor = factor

    def facts(self) -> dict[str, Any]:
        return {"temperature": self.factor}

    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        model = train(fresh(), data.x, data.y)
        with torch.no_grad():
            for parameter in list(model.parameters())[-2:]:  # weight and bias of the last layer
                parameter.mul_(self.factor)
        return model
