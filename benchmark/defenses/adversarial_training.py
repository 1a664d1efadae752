"""Adversarial training: the classifier learns from inputs altered against itself, batch by batch.

Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR 2018 (arXiv 1706.06083): the inner
maximisation is untargeted PGD on the cross-entropy from a random start. The modern baseline to hold defenses against.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.base import Defense
from benchmark.errors import positive

VERSION = 1


class AdversarialTraining(Defense):
    """Min-max training within an L-infinity box.

    Args:
        eps: largest change of a feature.
        steps, step_size: of the inner ascent.
    """

    def __init__(self, *, eps: float, steps: int, step_size: float) -> None:
        positive("adversarial_training.eps", eps)
        positive("adversarial_training.steps", steps)
        positive("adversarial_training.step_size", step_size)
        self.eps, self.steps, self.step_size = eps, steps, step_size

    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        model = fresh()
        # The loop hands out what it is given to learn from: here positions, which become altered inputs.
        train(_Altering(model, data, self.worst), torch.arange(len(data)), data.y)
        return model

    def worst(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Inputs (n, ...) in [0, 1] within the box on which the classifier is as wrong as the ascent can make it."""
        altered = (x + self.eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        for _ in range(self.steps):
            altered.requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(model(altered), y), altered)
            altered = altered.detach() + self.step_size * slope.sign()
            altered = torch.minimum(torch.maximum(altered, x - self.eps), x + self.eps).clamp(0, 1)
        return altered.detach()


class _Altering(nn.Module):
    """Positions (n,) in the data -> the model's logits of the altered inputs there."""

    def __init__(self, model: nn.Module, data: Split, worst: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.data, self.worst = model, data, worst

    def forward(self, index: Tensor) -> Tensor:
        return self.model(self.worst(self.model, self.data.x[index], self.data.y[index]))
