"""Gradients of many groups of samples at shared parameters, and what they say of the samples: one pass for all.

Where all groups share the weights, a group's weight gradient is the sum over its samples of (back-propagated signal) x
(layer input). So the signals of all samples are taken once, for the whole batch, and each group's gradient is one
batched matrix product of them with the (unfolded) inputs: Goodfellow, *Efficient Per-Example Gradient Computations*,
2015 (arXiv 1510.01799); Rochette, Manoel, Tramel, 2019 (arXiv 1912.06015) for convolutions.

Whoever matches gradients then wants the slope, in samples and labels, of a function of them. With v the function's
slope in the gradients, that is the slope of <v, gradients>: of the change of the loss as the weights move along v. One
more pass forward, of the change that v causes at every layer, and one back give it (Pearlmutter, *Fast Exact
Multiplication by the Hessian*, 1994), without differentiating twice through the whole network. ``torch.func.vmap`` over
the gradient of one group gives the same, several times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from benchmark.training.functional import Net
from benchmark.training.patches import is_plain
from benchmark.training.second_order import (
    SLOPES,
    Activation,
    Convolution,
    CrossEntropy,
    Flatten,
    Linear,
    Part,
    Weighted,
)


@dataclass(frozen=True)
class Chain:
    """A network whose layers are called one after the other, each on what the one before gave.

    Attributes:
        layers: by name, in the order of the calls; all parameters are those of linear layers and plain convolutions.
    """

    net: Net
    layers: tuple[tuple[str, nn.Module], ...]

    @classmethod
    def of(cls, net: Net, shape: Sequence[int]) -> Chain | None:
        """The chain that ``net`` is for samples of ``shape``, None where it is something else."""
        calls: list[tuple[str, nn.Module, Any, Any]] = []

        def note(name: str) -> Callable[..., None]:
            return lambda layer, given, output: calls.append((name, layer, given, output))

        some = next(net.module.parameters(), torch.zeros(()))
        here = some.new_zeros((2, *shape))
        with ExitStack() as hooks, torch.no_grad():
            for name, layer in net.module.named_modules():
                if not any(True for _ in layer.children()):
                    hooks.enter_context(layer.register_forward_hook(note(name)))
            logits = net.module(here)
        weights: list[str] = []
        for name, layer, given, output in calls:
            if len(given) != 1 or given[0] is not here or not _is_known(layer):
                return None
            here = output
            weights += [f"{name}.{own}".lstrip(".") for own, _ in layer.named_parameters()]
        # In other orders or counts a parameter is shared, used twice, outside a layer or not at all.
        if here is not logits or not weights or sorted(weights) != sorted(net.layout.names):
            return None
        return cls(net, tuple((name, layer) for name, layer, *_ in calls))

    def gradients(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The gradient of each group's mean cross-entropy.

        Args:
            params: (d,), shared by all groups.
            x: (groups, n, ...); y: classes int64 (groups, n) or distributions (groups, n, classes).

        Returns:
            (groups, d), the same as ``net.gradients``; differentiable, once, in ``x`` and in a soft ``y``.
        """
        return _Gradients.apply(x, y, self, params.detach())


def _is_known(layer: nn.Module) -> bool:
    """Whether products give the layer's weight gradients, or it has no weights and is a function of each sample."""
    if type(layer) is nn.Conv2d:
        return is_plain(layer)
    if type(layer) is nn.Linear:
        return True
    mixing = isinstance(layer, nn.modules.batchnorm._BatchNorm)
    random = isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training and layer.p > 0
    overwriting = getattr(layer, "inplace", False)
    return not (mixing or random or overwriting or any(True for _ in layer.parameters()))


def _part(name: str, layer: nn.Module, weights: dict[str, Tensor], groups: int) -> Part:
    if isinstance(layer, nn.Conv2d):
        return Convolution(name, layer, weights, groups)
    if isinstance(layer, nn.Linear):
        return Linear(name, layer, weights, groups)
    return (Activation if type(layer) in SLOPES else Flatten if type(layer) is nn.Flatten else Part)(layer)


class _Gradients(torch.autograd.Function):
    """Forward and back for the gradients; once more forward and back for the slope of a function of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, chain: Chain, params: Tensor) -> Tensor:
        weights = chain.net.layout.split(params)
        parts = [_part(name, layer, weights, len(x)) for name, layer in chain.layers]
        first = next(i for i, part in enumerate(parts) if isinstance(part, Weighted))
        here = x.detach().flatten(0, 1)
        for part in parts:
            here = part.run(here)
        loss = CrossEntropy(here, y.detach().flatten(0, 1), x.shape[1])
        signal, found = loss.signal, dict[str, Tensor]()
        for i in range(len(parts) - 1, first - 1, -1):
            part = parts[i]
            if isinstance(part, Weighted):
                part.signal = signal
                found |= part.gradients()
            if i > first:
                signal = part.pull(signal)
        ctx.layout, ctx.shape, ctx.parts, ctx.first, ctx.loss = chain.net.layout, x.shape, parts, first, loss
        return chain.net.layout.join(found, batch_dims=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        along, change = ctx.layout.split(slope), None
        for part in ctx.parts[ctx.first :]:
            change = part.push(change, along)
        back, labels = ctx.loss.pull_back(change)
        for part in reversed(ctx.parts):
            back = part.pull_back(back)
        grads = back.view(ctx.shape), labels.view(*ctx.shape[:2], -1)
        wanted = zip(grads, ctx.needs_input_grad[:2], strict=True)
        return *(found if needed else None for found, needed in wanted), None, None
