"""Layers that draw random numbers in training, with which a gradient is no function of parameters and batch."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from benchmark.errors import ConfigError

OTHERS = {"MultiheadAttention": "dropout", "StochasticDepth": "p", "DropPath": "drop_prob"}
"""Class -> attribute with the probability, of layers that are no dropout of PyTorch's."""


def of_chance(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield name, layer and attribute of each layer whose probability, held in that attribute, is above 0."""
    for name, layer in module.named_modules():
        held = "p" if isinstance(layer, nn.modules.dropout._DropoutNd) else OTHERS.get(type(layer).__name__)
        if held and (getattr(layer, held, None) or 0) > 0:
            yield name, layer, held


def without_chance(module: nn.Module) -> nn.Module:
    """Return ``module``, whose gradients have to be functions of parameters and batch.

    Raises:
        ConfigError: it draws random numbers in training.
    """
    for name, layer, _ in of_chance(module):
        raise ConfigError(
            f"{type(module).__name__} draws random numbers in training ({name}: {type(layer).__name__}), with which "
            "the gradients wanted here cannot be computed; set its dropout to 0 or false."
        )
    return module
