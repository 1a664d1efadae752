"""Gradients of many groups of samples at shared parameters: one pass for all, differentiable.

Where all groups share the weights, a group's weight gradient is the sum over its samples of (back-propagated signal) x
(layer input). So the signals of all samples are taken once, for the whole batch, and each group's gradient is one
batched matrix product of them with the (unfolded) inputs: Goodfellow, *Efficient Per-Example Gradient Computations*,
2015 (arXiv 1510.01799); Rochette, Manoel, Tramel, 2019 (arXiv 1912.06015) for convolutions. ``torch.func.vmap`` over
the gradient of one group gives the same, several times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from benchmark.training.functional import Net


def is_layered(module: nn.Module) -> bool:
    """Whether all parameters are those of linear layers and plain convolutions, so that the products suffice."""
    return all(_is_plain(layer) for layer in module.modules() if any(True for _ in layer.parameters(recurse=False)))


def _is_plain(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def grouped_gradients(net: Net, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of each group's mean cross-entropy.

    Args:
        net: its module is layered, see :func:`is_layered`, and uses every layer once.
        params: (d,), shared by all groups.
        x: (groups, n, ...); y: classes int64 (groups, n) or distributions (groups, n, classes).

    Returns:
        (groups, d), the same as ``net.gradients``; differentiable in ``x`` and in a soft ``y`` where these require it.
    """
    groups, size = x.shape[:2]
    differentiable = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    weights = net.layout.split(params.detach())
    tape = _Tape()
    with torch.enable_grad():
        inputs = x if x.requires_grad else x.detach().requires_grad_()  # so that every layer's output has a gradient
        with tape:
            logits = functional_call(net.module, weights, (inputs.flatten(0, 1),))
        loss = F.cross_entropy(logits, y.flatten(0, 1), reduction="sum") / size
        signals = torch.autograd.grad(loss, [used.output for used in tape.uses], create_graph=differentiable)
    with torch.set_grad_enabled(differentiable):
        pairs = zip(tape.uses, signals, strict=True)
        found = {id(weight): part for used, signal in pairs for weight, part in used.parts(groups, signal)}
        return net.layout.join([found[id(weight)] for weight in weights.values()], batch_dims=1)


@dataclass(frozen=True)
class _Use:
    """One layer's work: ``output`` (n, ..., rows) from ``inputs``; a row is a sample, or a position of the kernel."""

    weight: Tensor
    bias: Tensor | None
    inputs: Tensor
    output: Tensor
    convolution: bool

    def parts(self, groups: int, signal: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Weight and bias, each with its gradient (groups, *shape), from the signal at ``output``."""
        if self.convolution:  # (n, fan in, positions) and (n, outputs, positions)
            product, bias = self.inputs @ signal.transpose(1, 2), signal.sum(dim=2)
            product, bias = (part.unflatten(0, (groups, -1)).sum(dim=1) for part in (product, bias))
        else:
            rows, signal = (part.reshape(groups, -1, part.shape[-1]) for part in (self.inputs, signal))
            product, bias = rows.transpose(1, 2) @ signal, signal.sum(dim=1)
        yield self.weight, product.transpose(1, 2).reshape(groups, *self.weight.shape)
        if self.bias is not None:
            yield self.bias, bias


class _Tape(TorchFunctionMode):
    """Plays linear layers and convolutions and notes what went through them.

    A convolution is played as a product with the unfolded input, which the weight gradient needs anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.uses: list[_Use] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        play = {F.linear: self._linear, F.conv2d: self._convolution}.get(func, func)
        return play(*args, **(kwargs or {}))

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = F.linear(x, weight, bias)
        self.uses.append(_Use(weight, bias, x, output, convolution=False))
        return output

    def _convolution(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        patches = F.unfold(x, weight.shape[2:], dilation=dilation, padding=padding, stride=stride)
        output = weight.flatten(1) @ patches
        if bias is not None:
            output = output + bias[:, None]
        self.uses.append(_Use(weight, bias, patches, output, convolution=True))
        reach = dilation[0] * (weight.shape[2] - 1) + 1
        return output.unflatten(2, ((x.shape[2] + 2 * padding[0] - reach) // stride[0] + 1, -1))
