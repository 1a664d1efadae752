"""Gradients of single samples from one forward and one backward pass over the whole batch.

For one sample the gradient of a linear layer's weight is the outer product of the layer's input and of the signal that
the loss propagates back to its output (Goodfellow, *Efficient Per-Example Gradient Computations*, 2015, arXiv
1510.01799); a convolution is such a layer at every position of the image (Rochette et al., 2019, arXiv 1912.06015).
Norms need the products themselves or, where there are few positions, only inner products ("ghost norms": Bu, Mao, Xu,
*Scalable and Efficient Training of Large Convolutional Neural Networks with Differential Privacy*, NeurIPS 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, vjp, vmap
from torch.nn import functional as F

from benchmark.training.clipping import clip_rows
from benchmark.training.functional import Net
from benchmark.training.patches import is_plain, patches

Total = Callable[[Tensor, Tensor], Tensor]
"""Function of a network's outputs for n samples and their targets that returns the sum of their losses, ()."""


def total_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the samples' cross-entropies, ()."""
    return F.cross_entropy(logits, y, reduction="sum")


def clipped_sum(
    net: Net, params: Tensor, x: Tensor, y: Tensor, max_norm: float, total: Total = total_cross_entropy
) -> Tensor:
    """Return the sum (d,) of the samples' gradients, each scaled down to L2 norm ``max_norm`` (Abadi et al. 2016).

    Args:
        params: (d,).
        x: (n, ...).
        y: int64 (n,) or a distribution over classes (n, classes).
        total: the samples' summed loss; any loss but cross-entropy needs a net that :func:`captured` can decompose.
    """
    calls = captured(net, params, x, y, total)
    if calls is None:
        assert total is total_cross_entropy, "this network's gradients are only known for cross-entropy"
        return clip_rows(net.per_sample_gradients(params, x, y), max_norm).sum(dim=0)
    gradients = {name: part for call in calls for name, part in per_sample(call, net, params).items()}
    squares = torch.stack([part.squares() for part in gradients.values()]).sum(dim=0).clamp_min(0)
    factors = (max_norm / squares.sqrt().clamp_min(1e-20)).clamp_max(1)
    return net.layout.join({name: part.weighted(factors) for name, part in gradients.items()})


@dataclass(frozen=True)
class Call:
    """A layer's input and output signal in a forward and a backward pass.

    Attributes:
        name: of the layer within the module.
        x: (n, ...) input.
        signal: (n, ...) gradient of the samples' summed loss in its output.
    """

    name: str
    layer: nn.Module
    x: Tensor
    signal: Tensor

    def parameter(self, own: str) -> str:
        """Return the module's name of the layer's parameter ``own``."""
        return _joined(self.name, own)


def captured(net: Net, params: Tensor, x: Tensor, y: Tensor, total: Total = total_cross_entropy) -> list[Call] | None:
    """Return every layer's call for a batch at ``params``; together the layers hold every parameter once.

    None if there is no such list: a parameter is used outside a layer, more than once or not at all, a layer takes
    or returns anything but one tensor, or samples interact in it (batch normalisation). Arguments as of
    :func:`clipped_sum`.
    """
    layers = {name: layer for name, layer in net.module.named_modules() if own_parameters(layer)}
    held = [_joined(name, own) for name, layer in layers.items() for own in own_parameters(layer)]
    if sorted(held) != sorted(net.layout.names) or any(map(_opaque, layers.values())):
        return None
    captures: dict[str, list[_Capture | None]] = {name: [] for name in layers}
    with ExitStack() as hooks, torch.enable_grad():
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(partial(_capture, captures[name]), with_kwargs=True))
        weights = params.detach().requires_grad_()  # so that every layer's output has a gradient
        loss = total(net.logits(weights, x), y)
    once = [taken[0] for taken in captures.values() if len(taken) == 1 and taken[0] is not None]
    if len(once) < len(layers):
        return None
    signals = torch.autograd.grad(loss, [capture.output for capture in once], allow_unused=True)
    if any(signal is None for signal in signals):
        return None
    return [
        Call(name, layer, capture.x.detach(), signal)
        for (name, layer), capture, signal in zip(layers.items(), once, signals, strict=True)
    ]


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are not those of a sub-module."""
    return dict(layer.named_parameters(recurse=False))


def _joined(layer: str, own: str) -> str:
    return f"{layer}.{own}" if layer else own


def _opaque(layer: nn.Module) -> bool:
    """Return whether one sample's gradient cannot be computed from the layer's input and output signal."""
    return any(True for _ in layer.children()) or isinstance(layer, nn.modules.batchnorm._BatchNorm)


class _Capture(NamedTuple):
    """A layer's input, and its output's place in the graph, before any in-place change."""

    x: Tensor
    output: GradientEdge


def _capture(captures: list[_Capture | None], layer: nn.Module, given: Any, named: Any, output: Any) -> None:
    """Append a layer's call (as a forward hook), or None unless the layer maps one tensor to one tensor."""
    plain = len(given) == 1 and not named and isinstance(given[0], Tensor) and isinstance(output, Tensor)
    captures.append(_Capture(given[0], get_gradient_edge(output)) if plain else None)


@runtime_checkable
class PerSample(Protocol):
    """Gradients of n samples in one parameter, in any representation."""

    def squares(self) -> Tensor:
        """Return squared L2 norms, (n,)."""

    def weighted(self, factors: Tensor) -> Tensor:
        """Return their sum weighted by factors (n,), in the shape of the parameter or flat."""


@dataclass(frozen=True)
class Explicit:
    """Gradients stored as they are, (n, ...)."""

    gradients: Tensor

    def squares(self) -> Tensor:
        return self.gradients.flatten(1).square().sum(dim=1)

    def weighted(self, factors: Tensor) -> Tensor:
        return factors @ self.gradients.flatten(1)


@dataclass(frozen=True)
class Products:
    """Gradients of a weight (outputs, inputs), stored as factors: ``signals @ inputs^T`` for every sample.

    Attributes:
        signals: (n, outputs, positions).
        inputs: (n, inputs, positions).
    """

    signals: Tensor
    inputs: Tensor

    def squares(self) -> Tensor:
        both = self.signals.transpose(1, 2) @ self.signals, self.inputs.transpose(1, 2) @ self.inputs
        return (both[0] * both[1]).sum(dim=(1, 2))

    def weighted(self, factors: Tensor) -> Tensor:
        scaled = self.signals * factors[:, None, None]
        return scaled.transpose(0, 1).flatten(1) @ self.inputs.transpose(0, 1).flatten(1).T


def products(signals: Tensor, inputs: Tensor) -> PerSample:
    """Return the cheaper representation of the gradients ``signals @ inputs^T``.

    With k inputs, m outputs and p positions the product takes k m p multiplications and its Gram form (k + m) p^2;
    arguments as of :class:`Products`.
    """
    outputs, width, positions = signals.shape[1], inputs.shape[1], inputs.shape[2]
    if (outputs + width) * positions < outputs * width:
        return Products(signals, inputs)
    return Explicit(signals @ inputs.transpose(1, 2))


def per_sample(call: Call, net: Net, params: Tensor) -> dict[str, PerSample]:
    """Return the gradients of every parameter of a layer, by its name in the module."""
    layer = call.layer
    if isinstance(layer, nn.Linear):
        signals, inputs = (part.reshape(len(part), -1, part.shape[-1]).mT for part in (call.signal, call.x))
    elif isinstance(layer, nn.Conv1d | nn.Conv2d) and is_plain(layer):
        seen = patches(layer, call.x)  # (n, channels, *kernel, *positions)
        signals, inputs = call.signal.flatten(2), seen.flatten(1, 1 + len(layer.kernel_size)).flatten(2)
    else:
        return {call.parameter(own): Explicit(part) for own, part in layer_vjp(call, net, params).items()}
    found = {call.parameter("weight"): products(signals, inputs)}
    if layer.bias is not None:
        found[call.parameter("bias")] = Explicit(signals.sum(dim=2))
    return found


def layer_vjp(call: Call, net: Net, params: Tensor) -> dict[str, Tensor]:
    """Return name within the layer -> gradients (n, ...), for any layer, vectorised over samples."""
    split = net.layout.split(params.detach())
    own = {name: split[call.parameter(name)] for name in own_parameters(call.layer)}

    def one(x: Tensor, signal: Tensor) -> dict[str, Tensor]:
        back = vjp(lambda weights: functional_call(call.layer, weights, (x[None],)), own)[1]
        return back(signal[None])[0]

    return vmap(one)(call.x, call.signal)
