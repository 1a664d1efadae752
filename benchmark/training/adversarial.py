"""Adversarial training: a classifier learns from inputs altered against itself, batch by batch.

Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR 2018 (arXiv 1706.06083): the inner
maximisation is untargeted PGD on the cross-entropy from a random start.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split


def train_adversarially(
    model: nn.Module, data: Split, train: Callable[..., nn.Module], *, eps: float, steps: int, step_size: float
) -> nn.Module:
    """Train ``model`` on the worst inputs within an L-infinity box of radius ``eps``, and return it.

    Args:
        train: ``train(module, x, y)``, a training loop.
        steps, step_size: of the inner ascent.
    """
    # The training loop gets positions in the data in place of inputs; the wrapper turns them into altered inputs.
    train(_AlteredInputs(model, data, eps, steps, step_size), torch.arange(len(data), device=data.y.device), data.y)
    return model


def worst_inputs(
    model: nn.Module, x: Float[Tensor, "n ..."], y: Int[Tensor, " n"], *, eps: float, steps: int, step_size: float
) -> Float[Tensor, "n ..."]:
    """Return inputs (n, ...) in [0, 1] within the box at which the ascent maximises the classifier's loss."""
    altered = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        altered.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(altered), y), altered)
        altered = altered.detach() + step_size * gradient.sign()
        altered = torch.minimum(torch.maximum(altered, x - eps), x + eps).clamp(0, 1)
    return altered.detach()


class _AlteredInputs(nn.Module):
    """Wrapper that maps positions (n,) in the data to the model's logits of the altered inputs there."""

    def __init__(self, model: nn.Module, data: Split, eps: float, steps: int, step_size: float) -> None:
        super().__init__()
        self.model, self.data, self.eps, self.steps, self.step_size = model, data, eps, steps, step_size

    def forward(self, index: Tensor) -> Tensor:
        x, y = self.data.x[index], self.data.y[index]
        return self.model(worst_inputs(self.model, x, y, eps=self.eps, steps=self.steps, step_size=self.step_size))
