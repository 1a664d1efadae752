"""Shared code of architectures: a classifier of body and head, activations by name, initialisation."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.parameters import Checked

INITS = ("default", "uniform")
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Classifier(Checked, nn.Module):
    """A body and a linear head, registered last, so that its weight and bias are a model's last parameters.

    Class attributes:
        first_layer: ``linear`` or ``conv``; attacks that invert the first layer in closed form need to know.

    Args:
        body: (n, *shape) -> (n, features).
        head: (n, features) -> logits (n, classes).
    """

    place = "model"
    first_layer: ClassVar[str]

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return the penultimate representation, (n, features)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def activation(name: str) -> nn.Module:
    """Return the activation called ``name``.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in ACTIVATIONS:
        near = difflib.get_close_matches(name, ACTIVATIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"model.activation must be one of {list(ACTIVATIONS)}, got {name!r}.{hint}")
    return ACTIVATIONS[name]()


def initialise(module: nn.Module, init: str) -> None:
    """Draw all parameters from U(-0.5, 0.5) for ``uniform``, as in the code of DLG; ``default`` keeps PyTorch's.

    Raises:
        ConfigError: ``init`` is neither.
    """
    if init not in INITS:
        raise ConfigError(f"model.init must be one of {list(INITS)}, got {init!r}.")
    if init == "uniform":
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)


def average_pool(size: Sequence[int], pooled: int) -> nn.Module:
    """Return a module that averages maps of ``size`` to ``pooled`` steps along each dimension.

    CUDA has no deterministic gradient of adaptive pooling. Equal windows give the same numbers, to the last bit where
    their lengths are powers of two, so they stand in for it there.
    """
    windows = tuple(length // pooled for length in size)
    halved = all(window.bit_count() == 1 for window in windows)
    equal = halved and tuple(size) == tuple(window * pooled for window in windows)
    if len(size) == 1:
        return nn.AvgPool1d(windows[0]) if equal else nn.AdaptiveAvgPool1d(pooled)
    return nn.AvgPool2d(windows) if equal else nn.AdaptiveAvgPool2d(pooled)  # type: ignore[arg-type]


def image_shape(model: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return ``shape`` as (channels, height, width).

    Raises:
        ConfigError: the samples are not images.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"model={model} needs images, but a sample of this dataset has shape {tuple(shape)}; use model=mlp."
        )
    channels, height, width = shape
    return channels, height, width
