"""Training loop for models that are trained in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import Diverged

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
) -> nn.Module:
    """Fit ``module`` to (x, y) with Adam and return it in eval mode.

    A model with its own ``fit(x, y, rng)`` is trained by that instead, without the other arguments.

    Args:
        x: (n, ...) inputs.
        y: (n,) labels, (n, classes) soft labels, or whatever ``loss(module(x), y)`` takes.

    Raises:
        Diverged: the loss became NaN or infinite.
    """
    if isinstance(module, SelfFitting):
        module.fit(x, y, rng)
        return module.eval()
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    module.train()
    for _ in range(epochs):
        for index in batches(len(x), batch_size, rng, x.device):
            value = loss(module(x[index]), y[index])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        if not torch.isfinite(value):
            raise Diverged(f"training of {type(module).__name__} gave a loss of {value.item()}")
    return module.eval()


@torch.no_grad()
def predict(module: Callable[[Tensor], Tensor], x: Tensor, batch_size: int = 1024) -> Tensor:
    """Return ``module(x)``, computed in batches without gradients."""
    return torch.cat([module(part) for part in x.split(batch_size)])
