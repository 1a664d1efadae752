"""Gradients of many groups of samples at shared parameters, in one pass for all groups.

If all groups share the weights, a group's weight gradient is the sum over its samples of (back-propagated signal) x
(layer input). So the signals of all samples are computed once, for the whole batch, and each group's gradient is one
batched matrix product of them with the (unfolded) inputs: Goodfellow, *Efficient Per-Example Gradient Computations*,
2015 (arXiv 1510.01799); Rochette, Manoel, Tramel, 2019 (arXiv 1912.06015) for convolutions.

Gradient matching then needs the derivative, in samples and labels, of a function of these gradients. With v the
function's derivative in the gradients, that is the derivative of <v, gradients>, the change of the loss as the weights
move along v. One more forward pass, of the change that v causes at every layer, and one backward pass give it
(Pearlmutter, *Fast Exact Multiplication by the Hessian*, 1994), without differentiating twice through the whole
network. ``torch.func.vmap`` over the gradient of one group gives the same, several times slower.
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
    DERIVATIVES,
    Activation,
    ChainLayer,
    Convolution,
    CrossEntropy,
    Flatten,
    Linear,
    Weighted,
)


@dataclass(frozen=True)
class Chain:
    """A network whose layers are called one after the other, each on the output of the one before.

    Attributes:
        layers: by name, in the order of the calls; all parameters are those of linear layers and plain convolutions.
    """

    net: Net
    layers: tuple[tuple[str, nn.Module], ...]

    @classmethod
    def of(cls, net: Net, shape: Sequence[int]) -> Chain | None:
        """Return the chain that ``net`` is for samples of ``shape``, None if it is not one."""
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
        # A mismatch means that a parameter is shared, used twice, outside a layer or not at all.
        if here is not logits or not weights or sorted(weights) != sorted(net.layout.names):
            return None
        return cls(net, tuple((name, layer) for name, layer, *_ in calls))

    def gradients(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of each group's mean cross-entropy.

        Args:
            params: (d,), shared by all groups.
            x: (groups, n, ...); y: classes int64 (groups, n) or distributions (groups, n, classes).

        Returns:
            (groups, d), the same as ``net.gradients``; differentiable, once, in ``x`` and in a soft ``y``.
        """
        return _Gradients.apply(x, y, self, params.detach())


def _is_known(layer: nn.Module) -> bool:
    """Return whether the layer is a known weighted layer, or has no weights and acts on each sample alone."""
    if type(layer) is nn.Conv2d:
        return is_plain(layer)
    if type(layer) is nn.Linear:
        return True
    mixing = isinstance(layer, nn.modules.batchnorm._BatchNorm)
    random = isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training and layer.p > 0
    overwriting = getattr(layer, "inplace", False)
    return not (mixing or random or overwriting or any(True for _ in layer.parameters()))


def _chain_layer(name: str, layer: nn.Module, weights: dict[str, Tensor], groups: int) -> ChainLayer:
    if isinstance(layer, nn.Conv2d):
        return Convolution(name, layer, weights, groups)
    if isinstance(layer, nn.Linear):
        return Linear(name, layer, weights, groups)
    return (Activation if type(layer) in DERIVATIVES else Flatten if type(layer) is nn.Flatten else ChainLayer)(layer)


class _Gradients(torch.autograd.Function):
    """Forward and backward pass for the gradients, and once more both for the derivative of a function of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, chain: Chain, params: Tensor) -> Tensor:
        weights = chain.net.layout.split(params)
        layers = [_chain_layer(name, layer, weights, len(x)) for name, layer in chain.layers]
        first = next(i for i, layer in enumerate(layers) if isinstance(layer, Weighted))
        here = x.detach().flatten(0, 1)
        for layer in layers:
            here = layer.forward(here)
        loss = CrossEntropy(here, y.detach().flatten(0, 1), x.shape[1])
        signal, found = loss.signal, dict[str, Tensor]()
        for i in range(len(layers) - 1, first - 1, -1):
            layer = layers[i]
            if isinstance(layer, Weighted):
                layer.signal = signal
                found |= layer.gradients()
            if i > first:
                signal = layer.backward(signal)
        ctx.layout, ctx.shape, ctx.layers, ctx.first, ctx.loss = chain.net.layout, x.shape, layers, first, loss
        return chain.net.layout.join(found, batch_dims=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, derivative: Tensor) -> tuple[Tensor | None, ...]:
        along, change = ctx.layout.split(derivative), None
        for layer in ctx.layers[ctx.first :]:
            change = layer.push_forward(change, along)
        back, labels = ctx.loss.double_backward(change)
        for layer in reversed(ctx.layers):
            back = layer.double_backward(back)
        grads = back.view(ctx.shape), labels.view(*ctx.shape[:2], -1)
        wanted = zip(grads, ctx.needs_input_grad[:2], strict=True)
        return *(found if needed else None for found, needed in wanted), None, None
