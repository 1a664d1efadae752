"""Several trainings of one architecture as one: a step takes the gradients of all models at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from benchmark.errors import Diverged
from benchmark.precision import in_bf16
from benchmark.training.recipe import Recipe

MACHINERY = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


@dataclass(frozen=True)
class Training:
    """One call of :func:`benchmark.training.loop.train`.

    Attributes:
        module, x, y, rng, epochs, lr, batch_size, loss, recipe: as its arguments.
        bf16: forward passes are in bfloat16.
    """

    module: nn.Module
    x: Tensor
    y: Tensor
    rng: torch.Generator
    epochs: int
    lr: float
    batch_size: int
    loss: Callable[[Tensor, Tensor], Tensor]
    recipe: Recipe
    bf16: bool = False

    def optimizer(self, module: nn.Module) -> tuple[Optimizer, LRScheduler | None]:
        """Return the optimiser of ``module`` and what changes its rate after each step."""
        return self.recipe.prepare(module, lr=self.lr, steps=self.epochs * math.ceil(len(self.x) / self.batch_size))

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled batches of (x, y) that cover the samples once; the last may be smaller."""
        order = torch.randperm(len(self.x), generator=self.rng)
        # One copy for all batches: an index that comes from the CPU makes the host wait for a GPU.
        for index in order.to(self.x.device, non_blocking=True).split(self.batch_size):
            yield self.recipe.augmented(self.x[index], self.rng), self.y[index]

    def forward(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call``, a forward pass, in the precision of this training."""
        return in_bf16(call, self.x.device) if self.bf16 else call

    def kind(self) -> Hashable:
        """Return what trainings have in common that can be done side by side; None where this one cannot."""
        architecture = structure(self.module)
        if architecture is None or self.loss not in (F.cross_entropy, F.mse_loss) or not self.x.is_floating_point():
            return None
        samples = [(part.shape, part.dtype, part.device) for part in (self.x, self.y)]
        return architecture, *samples, self.epochs, self.lr, self.batch_size, repr(vars(self.recipe)), self.bf16


def structure(module: nn.Module) -> Hashable:
    """Return what modules have in common that are one function of their weights and buffers; None for what may be more.

    Attributes that are no plain numbers and texts may hold what those of another module do not, and dropout draws.
    """
    layers = []
    for name, layer in module.named_modules():
        own = {key: value for key, value in vars(layer).items() if key not in MACHINERY}
        if isinstance(layer, nn.modules.dropout._DropoutNd) or not all(map(_is_plain, own.values())):
            return None
        state = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        shapes = [(key, tensor.shape, tensor.dtype, tensor.requires_grad) for key, tensor in state]
        layers.append((name, type(layer), repr(sorted(own.items())), *shapes))
    return tuple(layers)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def train_side_by_side(jobs: Sequence[Training]) -> list[nn.Module]:
    """Return the modules of ``jobs`` of one kind in eval mode, each trained as it would be alone, but for rounding.

    Raises:
        Diverged: one of them did; nothing has changed then, but for the mode of the modules.
    """
    chance = [job.rng.get_state() for job in jobs]
    try:
        states = _trained(jobs)
    except Exception:
        for job, state in zip(jobs, chance, strict=True):
            job.rng.set_state(state)
        raise
    with torch.no_grad():
        for number, job in enumerate(jobs):
            for name, own in (*job.module.named_parameters(), *job.module.named_buffers()):
                own.copy_(states[name][number])
    return [job.module.eval() for job in jobs]


def _trained(jobs: Sequence[Training]) -> dict[str, Tensor]:
    """Return the state of the modules after training: by name, the values of all jobs (jobs, ...)."""
    first = jobs[0]
    modules = [job.module.train() for job in jobs]
    stacked, buffers = stack_module_state(modules)
    weights = {name: nn.Parameter(values.detach(), values.requires_grad) for name, values in stacked.items()}
    optimizer, schedule = first.optimizer(nn.ParameterList(weights.values()))
    logits = first.forward(vmap(partial(functional_call, first.module)))
    for _ in range(first.epochs):
        for batches in zip(*(job.epoch() for job in jobs), strict=True):
            x, y = zip(*batches, strict=True)
            values = map(first.loss, logits((weights, buffers), torch.stack(x)), y)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(values)).sum().backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
    states = {name: values.detach() for name, values in {**weights, **buffers}.items()}
    if not torch.stack([values.isfinite().all() for values in states.values()]).all():
        raise Diverged("one of several trainings side by side gave weights that are not finite")
    return states
