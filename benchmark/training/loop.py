"""Training loop for models that are trained in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import Diverged
from benchmark.precision import trains_in_bf16
from benchmark.rendezvous import meet
from benchmark.training.recipe import Recipe
from benchmark.training.side_by_side import Training, train_side_by_side

Loss = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class SelfFitting(Protocol):
    """A model with its own training, e.g. boosted trees."""

    def fit(self, x: Tensor, y: Tensor, rng: torch.Generator) -> object: ...


def train(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    rng: torch.Generator,
    lr: float = 1e-3,
    batch_size: int = 64,
    loss: Loss = F.cross_entropy,
    recipe: Recipe | None = None,
) -> nn.Module:
    """Fit ``module`` to (x, y) and return it in eval mode.

    A model with its own ``fit(x, y, rng)`` is trained by that instead, without the other arguments. In a cell of
    ``precision=bf16`` forward passes are in bfloat16; see :mod:`benchmark.precision`.

    Args:
        x: (n, ...) inputs.
        y: (n,) labels, (n, classes) soft labels, or whatever ``loss(module(x), y)`` takes.
        recipe: optimiser, schedule and augmentation; None: plain Adam.

    Raises:
        Diverged: the loss became NaN or infinite.
    """
    if isinstance(module, SelfFitting):
        module.fit(x, y, rng)
        return module.eval()
    job = Training(module, x, y, rng, epochs, lr, batch_size, loss, recipe or Recipe(), trains_in_bf16())
    return meet(job, _train, train_side_by_side)


def _train(job: Training) -> nn.Module:
    module = job.module
    forward = job.forward(module)
    optimizer, schedule = job.optimizer(module)
    module.train()
    for _ in range(job.epochs):
        for x, y in job.epoch():
            value = job.loss(forward(x), y)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
        if not torch.isfinite(value):
            raise Diverged(f"training of {type(module).__name__} gave a loss of {value.item()}")
    return module.eval()


@torch.no_grad()
def predict(module: Callable[[Tensor], Tensor], x: Tensor, batch_size: int = 1024) -> Tensor:
    """Return ``module(x)``, computed in batches without gradients."""
    return torch.cat([module(part) for part in x.split(batch_size)])
