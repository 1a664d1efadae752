"""What each kind of layer does in the passes of :mod:`benchmark.training.grouped`.

There are four: ``run`` forward, ``pull`` the loss's signal back, ``push`` a change forward, ``pull_back`` the slope of
<signal, change>. Layers with weights leave the groups' ``gradients`` after the second and take the direction that the
weights move along in the third.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.training.patches import patches


class CrossEntropy:
    """Summed over the samples and divided by ``size``, their number in a group; logits (n, classes).

    Attributes:
        signal: (n, classes) its slope in the logits.
    """

    def __init__(self, logits: Tensor, y: Tensor, size: int) -> None:
        y = y if y.is_floating_point() else F.one_hot(y, logits.shape[1]).to(logits)
        self.p, self.mass, self.size = logits.softmax(dim=1), y.sum(dim=1, keepdim=True) / size, size
        self.signal = self.mass * self.p - y / size

    def pull_back(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """The slope of <signal, change> in the logits and in the labels, both (n, classes)."""
        apart = change - (self.p * change).sum(dim=1, keepdim=True)
        return self.mass * self.p * apart, apart / -self.size


class Part:
    """A layer without weights, in one call of the chain: by autograd, which subclasses do without.

    Attributes:
        x: (n, ...) its input.
        pulled: (n, ...) the signal at its input, None where nobody asked for it.
    """

    x: Tensor
    pulled: Tensor | None = None

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def run(self, x: Tensor) -> Tensor:
        """The layer's output."""
        with torch.enable_grad():
            self.x = x.detach().requires_grad_()
            self.output = self.layer(self.x)
        return self.output.detach()

    def pull(self, signal: Tensor) -> Tensor:
        """The signal at the input, of that at the output."""
        with torch.enable_grad():
            self.signal = signal.detach().requires_grad_()
            (self.pulled,) = torch.autograd.grad(self.output, self.x, self.signal, create_graph=True)
        return self.pulled.detach()

    def push(self, change: Tensor, along: dict[str, Tensor]) -> Tensor:
        """How the output changes when the input changes so and the weights move ``along``, by name (groups, ...)."""
        assert self.pulled is not None
        self.change = change
        # What is pulled is linear in the signal, with the factors by which the output changes with the input.
        return torch.autograd.grad(self.pulled, self.signal, change, retain_graph=True)[0]

    def pull_back(self, back: Tensor) -> Tensor:
        """The slope in the input: by the output, whose slope is ``back``, and by those factors."""
        if self.pulled is None:
            return torch.autograd.grad(self.output, self.x, back, retain_graph=True)[0]
        both = (self.output, self.pulled)
        return torch.autograd.grad(both, self.x, (back, self.change), retain_graph=True)[0]


class Flatten(Part):
    """The same numbers in another shape."""

    def run(self, x: Tensor) -> Tensor:
        self.x = x
        return self.layer(x)

    def pull(self, signal: Tensor) -> Tensor:
        return signal.reshape(self.x.shape)

    def push(self, change: Tensor, along: dict[str, Tensor]) -> Tensor:
        return self.layer(change)

    def pull_back(self, back: Tensor) -> Tensor:
        return back.reshape(self.x.shape)


SLOPES: dict[type[nn.Module], Callable[[Tensor], tuple[Tensor, Tensor | None]]] = {
    nn.ReLU: lambda output: ((output > 0).to(output), None),
    nn.Sigmoid: lambda output: (output - output * output, 1 - 2 * output),
    nn.Tanh: lambda output: (1 - output * output, -2 * output),
}
"""Of an activation's output: the first derivative, and the second over the first, None where it is zero."""


class Activation(Part):
    """A function of each number alone."""

    def run(self, x: Tensor) -> Tensor:
        output = self.layer(x)
        self.slope, self.bend = SLOPES[type(self.layer)](output)
        return output

    def pull(self, signal: Tensor) -> Tensor:
        self.pulled = signal * self.slope
        return self.pulled

    def push(self, change: Tensor, along: dict[str, Tensor]) -> Tensor:
        self.change = change
        return change * self.slope

    def pull_back(self, back: Tensor) -> Tensor:
        if self.bend is None or self.pulled is None:
            return back * self.slope
        return torch.addcmul(self.pulled * self.bend * self.change, back, self.slope)


class Weighted(Part):
    """A layer whose weights all groups share.

    Attributes:
        signal: (n, ...) the signal at its output. along: (groups, outputs, inputs), how the weights move.
    """

    signal: Tensor
    along: Tensor

    def __init__(self, name: str, layer: Any, weights: dict[str, Tensor], groups: int) -> None:
        super().__init__(layer)
        self.groups, self.names = groups, [f"{name}.{own}".lstrip(".") for own in ("weight", "bias")]
        self.bias = weights.get(self.names[1])
        self.weight = weights[self.names[0]].flatten(1)

    def gradients(self) -> dict[str, Tensor]:
        """Those of each group, by name: (groups, ...)."""
        raise NotImplementedError


class Linear(Weighted):
    """Inputs (n, ..., width)."""

    def rows(self, x: Tensor) -> Tensor:
        """(n, ..., width) -> (groups, rows, width)."""
        return x.reshape(self.groups, -1, x.shape[-1])

    def run(self, x: Tensor) -> Tensor:
        self.x = x
        return F.linear(x, self.weight, self.bias)

    def pull(self, signal: Tensor) -> Tensor:
        return signal @ self.weight

    def gradients(self) -> dict[str, Tensor]:
        signal = self.rows(self.signal)
        return dict(zip(self.names, (signal.mT @ self.rows(self.x), signal.sum(dim=1)), strict=True))

    def push(self, change: Tensor | None, along: dict[str, Tensor]) -> Tensor:
        self.along = along[self.names[0]]
        own = self.rows(self.x) @ self.along.mT
        if self.bias is not None:
            own += along[self.names[1]].unsqueeze(1)
        own = own.view(self.signal.shape)
        return own if change is None else own + change @ self.weight.T

    def pull_back(self, back: Tensor) -> Tensor:
        return torch.baddbmm(self.rows(back @ self.weight), self.rows(self.signal), self.along).view(self.x.shape)


class Convolution(Weighted):
    """Inputs (n, channels, height, width).

    Everything is a product with the unfolded input, which the weights' gradients need anyway: (groups, channels *
    kernel, positions of all samples). For few samples torch's own convolutions cost several times as much, for many
    they would win a tenth.
    """

    def together(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (groups, channels, positions of all samples)."""
        x = x.reshape(self.groups, -1, x.shape[1], x.shape[2] * x.shape[3])
        return x.transpose(1, 2).reshape(self.groups, x.shape[2], -1)

    def apart(self, x: Tensor) -> Tensor:
        """(groups, channels, positions of all samples) -> (n, channels, positions)."""
        size = len(self.x) // self.groups
        return x.view(*x.shape[:2], size, -1).transpose(1, 2).reshape(len(self.x), x.shape[1], -1)

    def unfolded(self, x: Tensor) -> Tensor:
        """What the kernel sees of (n, channels, ...): (groups, channels * kernel, positions of all samples)."""
        view = patches(self.layer, x).unflatten(0, (self.groups, -1))
        self.places = view.shape[-2:]
        return view.movedim(1, 4).flatten(1, 3).flatten(2)

    def folded(self, slope: Tensor) -> Tensor:
        """Its transpose."""
        how = {name: getattr(self.layer, name) for name in ("dilation", "padding", "stride")}
        return F.fold(self.apart(slope), self.x.shape[2:], self.layer.kernel_size, **how)

    def run(self, x: Tensor) -> Tensor:
        self.x, self.patches = x, self.unfolded(x)
        output = self.weight @ self.patches
        if self.bias is not None:
            output += self.bias[:, None]
        return self.apart(output).view(len(x), -1, *self.places)

    def pull(self, signal: Tensor) -> Tensor:
        return self.folded(self.weight.T @ self.together(signal))

    def gradients(self) -> dict[str, Tensor]:
        signal = self.together(self.signal)
        return dict(zip(self.names, (signal @ self.patches.mT, signal.sum(dim=2)), strict=True))

    def push(self, change: Tensor | None, along: dict[str, Tensor]) -> Tensor:
        self.along = along[self.names[0]].flatten(2)
        own = self.along @ self.patches
        if self.bias is not None:
            own += along[self.names[1]].unsqueeze(2)
        if change is not None:
            own = torch.baddbmm(own, self.weight.expand_as(self.along), self.unfolded(change))
        return self.apart(own).view(self.signal.shape)

    def pull_back(self, back: Tensor) -> Tensor:
        # One product and one fold for both ways in which a patch matters: moved weights x signal and weights x slope.
        weights = torch.cat([self.along, self.weight.expand_as(self.along)], dim=1)
        return self.folded(weights.mT @ self.together(torch.cat([self.signal, back], dim=1)))
