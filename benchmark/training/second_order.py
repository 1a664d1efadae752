"""Passes of single layers for :mod:`benchmark.training.grouped`.

There are four: ``forward``; ``backward`` of the loss's signal; ``push_forward`` of a change; ``double_backward`` of the
derivative of <signal, change>. Weighted layers provide the groups' ``gradients`` after the second pass and take the
direction in which the weights move in the third.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.training.patches import patches


class CrossEntropy:
    """Cross-entropy summed over the samples and divided by ``size``, their number in a group; logits (n, classes).

    Attributes:
        signal: (n, classes) its gradient in the logits.
    """

    def __init__(self, logits: Tensor, y: Tensor, size: int) -> None:
        y = y if y.is_floating_point() else F.one_hot(y, logits.shape[1]).to(logits)
        self.p, self.mass, self.size = logits.softmax(dim=1), y.sum(dim=1, keepdim=True) / size, size
        self.signal = self.mass * self.p - y / size

    def double_backward(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of <signal, change> in the logits and in the labels, both (n, classes)."""
        centred = change - (self.p * change).sum(dim=1, keepdim=True)
        return self.mass * self.p * centred, centred / -self.size


class ChainLayer:
    """A layer without weights, in one call of the chain, by autograd; subclasses use closed forms.

    Attributes:
        x: (n, ...) its input.
        input_signal: (n, ...) the signal at its input, None if it was not computed.
    """

    x: Tensor
    input_signal: Tensor | None = None

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        with torch.enable_grad():
            self.x = x.detach().requires_grad_()
            self.output = self.layer(self.x)
        return self.output.detach()

    def backward(self, signal: Tensor) -> Tensor:
        """Return the signal at the input from that at the output."""
        with torch.enable_grad():
            self.signal = signal.detach().requires_grad_()
            (self.input_signal,) = torch.autograd.grad(self.output, self.x, self.signal, create_graph=True)
        return self.input_signal.detach()

    def push_forward(self, change: Tensor, along: dict[str, Tensor]) -> Tensor:
        """Return the change of the output when the input changes by ``change`` and weights by ``along``, by name."""
        assert self.input_signal is not None
        self.change = change
        # The input's signal is linear in the output's, with the factors by which the output changes with the input.
        return torch.autograd.grad(self.input_signal, self.signal, change, retain_graph=True)[0]

    def double_backward(self, back: Tensor) -> Tensor:
        """Return the derivative in the input: by the output, whose derivative is ``back``, and by those factors."""
        if self.input_signal is None:
            return torch.autograd.grad(self.output, self.x, back, retain_graph=True)[0]
        both = (self.output, self.input_signal)
        return torch.autograd.grad(both, self.x, (back, self.change), retain_graph=True)[0]


class Flatten(ChainLayer):
    """Layer that only reshapes."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return self.layer(x)

    def backward(self, signal: Tensor) -> Tensor:
        return signal.reshape(self.x.shape)

    def push_forward(self, change: Tensor, along: dict[str, Tensor]) -> Tensor:
        return self.layer(change)

    def double_backward(self, back: Tensor) -> Tensor:
        return back.reshape(self.x.shape)


DERIVATIVES: dict[type[nn.Module], Callable[[Tensor], tuple[Tensor, Tensor | None]]] = {
    nn.ReLU: lambda output: ((output > 0).to(output), None),
    nn.Sigmoid: lambda output: (output - output * output, 1 - 2 * output),
    nn.Tanh: lambda output: (1 - output * output, -2 * output),
}
"""Function of an activation's output that returns the first derivative, and the second over the first (None: zero)."""


class Activation(ChainLayer):
    """Element-wise function."""

    def forward(self, x: Tensor) -> Tensor:
        output = self.layer(x)
        self.derivative, self.curvature_ratio = DERIVATIVES[type(self.layer)](output)
        return output

    def backward(self, signal: Tensor) -> Tensor:
        self.input_signal = signal * self.derivative
        return self.input_signal

    def push_forward(self, change: Tensor, along: dict[str, Tensor]) -> Tensor:
        self.change = change
        return change * self.derivative

    def double_backward(self, back: Tensor) -> Tensor:
        if self.curvature_ratio is None or self.input_signal is None:
            return back * self.derivative
        return torch.addcmul(self.input_signal * self.curvature_ratio * self.change, back, self.derivative)


class Weighted(ChainLayer):
    """A layer whose weights all groups share.

    Attributes:
        signal: (n, ...) the signal at its output.
        along: (groups, outputs, inputs), the direction in which the weights move.
    """

    signal: Tensor
    along: Tensor

    def __init__(self, name: str, layer: Any, weights: dict[str, Tensor], groups: int) -> None:
        super().__init__(layer)
        self.groups, self.names = groups, [f"{name}.{own}".lstrip(".") for own in ("weight", "bias")]
        self.bias = weights.get(self.names[1])
        self.weight = weights[self.names[0]].flatten(1)

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients of each group, by name: (groups, ...)."""
        raise NotImplementedError


class Linear(Weighted):
    """Linear layer of inputs (n, ..., width)."""

    def rows(self, x: Tensor) -> Tensor:
        """Return (n, ..., width) as (groups, rows, width)."""
        return x.reshape(self.groups, -1, x.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return F.linear(x, self.weight, self.bias)

    def backward(self, signal: Tensor) -> Tensor:
        return signal @ self.weight

    def gradients(self) -> dict[str, Tensor]:
        signal = self.rows(self.signal)
        return dict(zip(self.names, (signal.mT @ self.rows(self.x), signal.sum(dim=1)), strict=True))

    def push_forward(self, change: Tensor | None, along: dict[str, Tensor]) -> Tensor:
        self.along = along[self.names[0]]
        own = self.rows(self.x) @ self.along.mT
        if self.bias is not None:
            own += along[self.names[1]].unsqueeze(1)
        own = own.view(self.signal.shape)
        return own if change is None else own + change @ self.weight.T

    def double_backward(self, back: Tensor) -> Tensor:
        return torch.baddbmm(self.rows(back @ self.weight), self.rows(self.signal), self.along).view(self.x.shape)


class Convolution(Weighted):
    """Convolution of inputs (n, channels, height, width).

    All passes are products with the unfolded input, (groups, channels * kernel, positions of all samples), which the
    weights' gradients need anyway. For few samples torch's own convolutions cost several times as much, for many they
    would save a tenth.
    """

    def per_group(self, x: Tensor) -> Tensor:
        """Return (n, channels, height, width) as (groups, channels, positions of all samples)."""
        x = x.reshape(self.groups, -1, x.shape[1], x.shape[2] * x.shape[3])
        return x.transpose(1, 2).reshape(self.groups, x.shape[2], -1)

    def per_sample(self, x: Tensor) -> Tensor:
        """Return (groups, channels, positions of all samples) as (n, channels, positions)."""
        size = len(self.x) // self.groups
        return x.view(*x.shape[:2], size, -1).transpose(1, 2).reshape(len(self.x), x.shape[1], -1)

    def unfolded(self, x: Tensor) -> Tensor:
        """Return the patches (groups, channels * kernel, positions of all samples) of (n, channels, ...)."""
        view = patches(self.layer, x).unflatten(0, (self.groups, -1))
        self.positions = view.shape[-2:]
        return view.movedim(1, 4).flatten(1, 3).flatten(2)

    def folded(self, derivative: Tensor) -> Tensor:
        """Return the transpose of :meth:`unfolded`."""
        options = {name: getattr(self.layer, name) for name in ("dilation", "padding", "stride")}
        return F.fold(self.per_sample(derivative), self.x.shape[2:], self.layer.kernel_size, **options)

    def forward(self, x: Tensor) -> Tensor:
        self.x, self.patches = x, self.unfolded(x)
        output = self.weight @ self.patches
        if self.bias is not None:
            output += self.bias[:, None]
        return self.per_sample(output).view(len(x), -1, *self.positions)

    def backward(self, signal: Tensor) -> Tensor:
        return self.folded(self.weight.T @ self.per_group(signal))

    def gradients(self) -> dict[str, Tensor]:
        signal = self.per_group(self.signal)
        return dict(zip(self.names, (signal @ self.patches.mT, signal.sum(dim=2)), strict=True))

    def push_forward(self, change: Tensor | None, along: dict[str, Tensor]) -> Tensor:
        self.along = along[self.names[0]].flatten(2)
        own = self.along @ self.patches
        if self.bias is not None:
            own += along[self.names[1]].unsqueeze(2)
        if change is not None:
            own = torch.baddbmm(own, self.weight.expand_as(self.along), self.unfolded(change))
        return self.per_sample(own).view(self.signal.shape)

    def double_backward(self, back: Tensor) -> Tensor:
        # One product and one fold for both terms: moved weights x signal, and weights x derivative.
        weights = torch.cat([self.along, self.weight.expand_as(self.along)], dim=1)
        return self.folded(weights.mT @ self.per_group(torch.cat([self.signal, back], dim=1)))
