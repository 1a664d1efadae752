"""R-GAP: the input of every layer from the input of the next, in closed form or as a linear system.

Zhu, Blaschko, *R-GAP: Recursive Gradient Attack on Privacy*, ICLR 2021, Algorithm 1. From the loss backwards, each
layer gives two kinds of linear equations in its input x: those of its output (W x = z, where z is the inverse of the
activation at the input of the next layer) and those of its weights' gradient (dL/dW = k x^T, where k = dL/dz comes from
the next layer). Deviations: several classes instead of a binary loss, as biases give k of the last layer directly;
least squares by conjugate gradients instead of the code's gradient descent; where ReLU is zero, the first kind is left
out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn import functional as F

from benchmark.errors import Refused
from benchmark.parameters import Count
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.analytic import least_squares
from benchmark.threats.gradient_leakage.labels import restore_labels
from benchmark.threats.gradient_leakage.matching import targets_of

VERSION = 1
CONVERGED = 1e-22  # share of the first squared gradient at which a least-squares problem counts as solved
EDGE = 1e-6  # outputs this close to a saturated activation's bound are not inverted


@dataclass(frozen=True)
class InvertedLayer:
    """A layer to be inverted and the activation that follows it (None after the last layer)."""

    layer: nn.Module
    weight: str
    bias: str
    activation: nn.Module | None


class RGAP(UploadThreat):
    """Recursive recovery of one sample; a batch is treated as a single sample.

    Args:
        iterations: of conjugate gradients for each convolution.
        observations: rounds averaged by the adaptive form, which also leaves out coordinates that were not sent.
        adaptive: the adversary reads what the defense publishes, see :func:`~.matching.targets_of`.
    """

    family = "gradient_leakage"
    headline = "ssim"
    floor = Floor("ssim", 0.5)

    def __init__(self, *, iterations: Count = 2000, observations: Count = 100, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.iterations = iterations
        self.observations = observations if adaptive else 1

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        layers = chain(surface.net.module)
        targets = targets_of(surface, self.adaptive)
        layout = surface.net.layout
        gradients = layout.split(targets.gradients.double())
        mask = torch.ones_like(targets.gradients) if targets.mask is None else targets.mask
        masks = layout.split(mask.bool())
        params = layout.split(surface.params.double())
        shapes = _input_shapes(layers, surface)
        next_input: Tensor | None = None  # (n, ...) the input of the next layer
        upstream: Tensor | None = None  # the loss's gradient there
        for inverted, shape in zip(reversed(layers), reversed(shapes), strict=True):
            next_input, upstream = self._invert_layer(inverted, shape, next_input, upstream, gradients, masks, params)
        assert next_input is not None
        samples = targets.members * surface.batch_size
        x = next_input.to(surface.params).clamp(0, 1).unsqueeze(1).expand(-1, samples, *surface.shape)
        labels = restore_labels(targets.gradients, layout, samples)
        return Reconstruction(targets.scatter(x), targets.scatter(labels), targets.groups)

    def _invert_layer(
        self,
        inverted: InvertedLayer,
        shape: tuple[int, ...],
        next_input: Tensor | None,
        upstream: Tensor | None,
        gradients: dict[str, Tensor],
        masks: dict[str, Tensor],
        params: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return a layer's input (n, *shape) and the loss's gradient there, given the same of the next layer."""
        weight, bias = params[inverted.weight], params[inverted.bias]
        if next_input is None:
            z, known, k = None, None, gradients[inverted.bias]
        else:
            assert upstream is not None and inverted.activation is not None
            z, slope, known = invert(inverted.activation, next_input)
            k = upstream * slope
        if isinstance(inverted.layer, nn.Linear):
            k = k.flatten(start_dim=1)
            pairs = (gradients[inverted.weight], gradients[inverted.bias], masks[inverted.weight], masks[inverted.bias])
            x = least_squares(*pairs).squeeze(1).view(-1, *shape)
            return x, (k @ weight).view_as(x)
        assert isinstance(inverted.layer, nn.Conv2d) and z is not None and known is not None
        z, known, k = (value.view(len(k), *_output_shape(inverted.layer, shape)) for value in (z, known, k))
        made = (z - bias[:, None, None]) * known
        x = self._solve(
            inverted.layer, shape, made, known, k, weight, gradients[inverted.weight], masks[inverted.weight]
        )
        transpose_convolution = vjp(_convolution(inverted.layer, weight), x)[1]
        return x, transpose_convolution(k)[0]

    def _solve(
        self,
        layer: nn.Conv2d,
        shape: tuple[int, ...],
        made: Tensor,
        known: Tensor,
        k: Tensor,
        weight: Tensor,
        observed: Tensor,
        sent: Tensor,
    ) -> Tensor:
        """Return the x (n, *shape) that solves both kinds of equations in the least-squares sense.

        Both sides of the second kind are scaled to the size of the first, since their own scale carries no information.
        """
        convolve = _convolution(layer, weight)
        size = k.flatten(1).norm(dim=1).clamp_min(1e-30)
        unit = k / size.view(-1, 1, 1, 1)

        def of_weight(x: Tensor, unit: Tensor) -> Tensor:
            def product(w: Tensor) -> Tensor:
                return (_convolution(layer, w)(x.unsqueeze(0))[0] * unit).sum()

            return torch.func.grad(product)(weight)

        observed = observed / size.view(-1, 1, 1, 1, 1) * sent

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            return convolve(x) * known, vmap(of_weight)(x, unit) * sent

        return conjugate_gradients(forward, (made, observed), shape, self.iterations)


Linear = Callable[[Tensor], tuple[Tensor, Tensor]]


def conjugate_gradients(
    forward: Linear, wanted: tuple[Tensor, Tensor], shape: tuple[int, ...], iterations: int
) -> Tensor:
    """Solve many least-squares problems at once from zero, (n, *shape) (CGLS; Björck 1996, Algorithm 7.4.1)."""
    x = torch.zeros(len(wanted[0]), *shape, dtype=wanted[0].dtype, device=wanted[0].device)
    transpose = vjp(forward, x)[1]

    def total(value: Tensor) -> Tensor:
        return value.square().flatten(start_dim=1).sum(dim=1).view(-1, *[1] * len(shape))

    residual = wanted
    gradient = transpose(residual)[0]
    direction, power = gradient, total(gradient)
    done = CONVERGED * power  # after this point round-off grows and the residual no longer shrinks
    for _ in range(iterations):
        made = forward(direction)
        curvature = sum(part.square().flatten(start_dim=1).sum(dim=1) for part in made).view_as(power)  # type: ignore
        step = torch.where((curvature > 0) & (power > done), power / curvature.clamp_min(1e-300), 0.0)
        x = x + step * direction
        residual = tuple(  # type: ignore[assignment]
            left - step.view(-1, *[1] * (left.ndim - 1)) * part for left, part in zip(residual, made, strict=True)
        )
        gradient = transpose(residual)[0]
        new_power = total(gradient)
        direction = gradient + torch.where(power > 0, new_power / power.clamp_min(1e-300), 0.0) * direction
        power = new_power
    return x


def invert(activation: nn.Module, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return an activation's input, its slope there and where both are known (float, 1 or 0), from its output."""
    everywhere = torch.ones_like(output)
    if isinstance(activation, nn.Sigmoid):
        inside = output.clamp(EDGE, 1 - EDGE)
        return inside.logit(), inside * (1 - inside), everywhere
    if isinstance(activation, nn.Tanh):
        inside = output.clamp(EDGE - 1, 1 - EDGE)
        return inside.atanh(), 1 - inside.square(), everywhere
    if isinstance(activation, nn.LeakyReLU):
        slope = torch.where(output > 0, 1.0, activation.negative_slope).to(output)
        return output / slope, slope, everywhere
    active = (output > EDGE).to(output)
    return output * active, active, active


def chain(module: nn.Module) -> list[InvertedLayer]:
    """Return the module as a sequence of layers with biases and their activations.

    Raises:
        Refused: the module has another structure.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    layers: list[InvertedLayer] = []
    for inner in module.modules():
        if isinstance(inner, nn.Linear | nn.Conv2d) and inner.bias is not None:
            layers.append(InvertedLayer(inner, names[id(inner.weight)], names[id(inner.bias)], None))
        elif isinstance(inner, nn.Sigmoid | nn.Tanh | nn.ReLU | nn.LeakyReLU) and layers and not layers[-1].activation:
            last = layers.pop()
            layers.append(InvertedLayer(last.layer, last.weight, last.bias, inner))
        elif not list(inner.children()) and not isinstance(inner, nn.Flatten):
            raise Refused(
                f"R-GAP walks back through convolutions, linear layers and activations, not through "
                f"{type(inner).__name__}; use model=lenet, strided_convnet or mlp."
            )
    if not layers or layers[-1].activation is not None or not isinstance(layers[-1].layer, nn.Linear):
        raise Refused("R-GAP needs a model whose last layer is linear.")
    return layers


def _convolution(layer: nn.Conv2d, weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: F.conv2d(x, weight, None, layer.stride, layer.padding)


def _output_shape(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(layer, nn.Linear):
        return (layer.out_features,)
    assert isinstance(layer, nn.Conv2d)
    empty = torch.zeros(1, *shape, device=layer.weight.device, dtype=layer.weight.dtype)
    return tuple(_convolution(layer, layer.weight.detach())(empty).shape[1:])


def _input_shapes(layers: list[InvertedLayer], surface: UploadSurface) -> list[tuple[int, ...]]:
    """Return the input shape of each layer; a linear layer accepts any shape, flattened."""
    shapes, shape = [], surface.shape
    for inverted in layers:
        shapes.append(shape)
        shape = _output_shape(inverted.layer, shape)
    return shapes
