"""A model's layers as parts of its flat parameter vector, for layer-wise measures and defenses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.training.functional import Layout

KINDS = {1: "norm", 2: "fc", 3: "conv", 4: "conv"}


def layer_slices(layout: Layout) -> dict[str, slice]:
    """Return layer -> its slice of the flat vector, in the order of the parameters: ``conv1``, ``conv2``, ``fc1``, ...

    A layer is a module with its weight and bias; the dimensions of the weight determine its kind.
    """
    found: dict[str, slice] = {}
    counts: dict[str, int] = {}
    last = None
    for (name, part), shape in zip(layout.slices().items(), layout.shapes, strict=True):
        module = name.rpartition(".")[0]
        if module == last:
            layer = next(reversed(found))
            found[layer] = slice(found[layer].start, part.stop)
            continue
        kind = KINDS.get(len(shape), "layer")
        counts[kind] = counts.get(kind, 0) + 1
        found[f"{kind}{counts[kind]}"] = part
        last = module
    return found


def select_layers(layout: Layout, wanted: Sequence[str], option: str) -> list[str]:
    """Return the layers that ``wanted`` names: single layers, ``first``, ``last`` or ``fc`` (all fully connected ones).

    Raises:
        ConfigError: the model has no such layer; ``option`` is the config's name for ``wanted``.
    """
    layers = list(layer_slices(layout))
    groups = {"first": layers[:1], "last": layers[-1:], "fc": [layer for layer in layers if layer.startswith("fc")]}
    unknown = [name for name in wanted if name not in groups and name not in layers]
    if unknown:
        raise ConfigError(f"{option} names {unknown}, but this model has {layers}; first, last and fc work for all.")
    chosen = {layer for name in wanted for layer in groups.get(name, [name])}
    return [layer for layer in layers if layer in chosen]


def layer_mask(layout: Layout, layers: Sequence[str]) -> Bool[Tensor, " d"]:
    """Return bool (d,), True on the parameters of ``layers``."""
    mask = torch.zeros(layout.size, dtype=torch.bool)
    slices = layer_slices(layout)
    for layer in layers:
        mask[slices[layer]] = True
    return mask
