"""Training loop for models that are trained in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import Diverged
from benchmark.training.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class SelfFitting(Protocol):
    """A model with its own training, e.g. boosted trees."""

    def fit(self, x: Tensor, y: Tensor, rng: torch.Generator) -> object: ...


def batches(count: int, batch_size: int, rng: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Yield shuffled index batches on ``device`` that cover ``count`` samples once; the last may be smaller."""
    # One copy for all batches: an index that comes from the CPU makes the host wait for a GPU.
    yield from torch.randperm(count, generator=rng).to(device, non_blocking=True).split(batch_size)


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

    A model with its own ``fit(x, y, rng)`` is trained by that instead, without the other arguments.

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
    recipe = recipe or Recipe()
    optimizer, schedule = recipe.prepare(module, lr=lr, steps=epochs * math.ceil(len(x) / batch_size))
    module.train()
    for _ in range(epochs):
        for index in batches(len(x), batch_size, rng, x.device):
            value = loss(module(recipe.augmented(x[index], rng)), y[index])
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
