"""Soteria: remove from one layer's gradient the part of the representation that reveals most of the input.

Sun, Li, Wang, Yang, Zhang, Chen, *Provable Defense against Privacy Leakage in Federated Learning from Representation
Perspective*, CVPR 2021, section 4. Known break: an adversary who leaves that layer out of the matching loss (Balunović
et al., ICLR 2022). Deviations: the norms of the representation's gradients are estimated by random forward-mode
products instead of one backward pass a unit, and one ranking (the batch's mean score) serves a whole batch, as in
AIJack's implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.errors import ConfigError
from benchmark.metrics.gradient_geometry import push_forward_each
from benchmark.parameters import BelowOne, Count
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, LocalStep
from benchmark.training.functional import Layout, Net
from benchmark.training.layers import layer_mask, layer_slices

VERSION = 2


class Soteria(FederatedDefense):
    """Client defense that zeroes the gradient of the protected layer where its representation scores highest.

    The protected layer is the first fully connected one and the representation is its output: rows of its gradient are
    zeroed. If the only such layer is the head, the representation is the head's input and columns are zeroed (as in the
    paper's networks). On a model that a malicious server has put a layer in front of, that layer is the first one.

    Args:
        ratio: share of the representation that is removed.
        probes: forward-mode products for each ranking.

    Raises:
        ConfigError: in a step, if the model has no fully connected layer.
    """

    def __init__(self, *, ratio: BelowOne = 0.5, probes: Count = 8) -> None:
        self.ratio, self.probes = ratio, probes
        self.withheld: Tensor | None = None

    def start(self, parties: int, layout: Layout) -> None:
        self.withheld = ~layer_mask(layout, [_protected(layout)[0]])

    def facts(self) -> dict[str, Any]:
        return {} if self.withheld is None else {"mask": self.withheld}

    def local_step(self, step: LocalStep) -> Tensor:
        layer, by_rows = _protected(step.net.layout)
        scores = representation_scores(step.net, step.params, step.x, by_rows, self.probes, step.rng)
        cut = scores.topk(int(self.ratio * len(scores))).indices
        gradient = step.gradient().clone()
        part = layer_slices(step.net.layout)[layer]
        tensors = step.net.layout.split(gradient)
        weight, bias = _weight_and_bias(step.net.layout, part)
        tensors[weight][(cut,) if by_rows else (slice(None), cut)] = 0
        if by_rows and bias is not None:
            tensors[bias][cut] = 0
        return step.net.layout.join(tensors)


def representation_scores(
    net: Net,
    params: Float[Tensor, " d"],
    x: Float[Tensor, "batch ..."],
    by_rows: bool,
    probes: int,
    rng: torch.Generator,
) -> Float[Tensor, " units"]:
    """Return the batch mean of |h_i| / ||dh_i/dx||_2 for every unit of the representation h, (units,)."""

    def represent(x: Tensor) -> Tensor:
        return _representation(net, params, x, by_rows)

    along = torch.stack([normal_like(x, rng) for _ in range(probes)])
    h, changes = push_forward_each(represent, x, along)
    return (h.abs() / changes.square().mean(dim=0).sqrt().clamp_min(1e-12)).mean(dim=0)


def _representation(net: Net, params: Tensor, x: Tensor, use_output: bool) -> Tensor:
    """Return the first fully connected layer's output, activated, or else its input, (n, units) for x (n, ...)."""
    seen: list[Tensor] = []
    layer, *others = [module for module in net.module.modules() if isinstance(module, nn.Linear)]
    if use_output and others[0].in_features != layer.out_features:
        # Nobody else reads it as it is, as where a server has put a layer in front: it counts without its activation.
        handle = layer.register_forward_hook(lambda _, inputs, output: seen.append(output))
    else:
        reader = others[0] if use_output else layer
        handle = reader.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        functional_call(net.module, net.layout.split(params), (x,))
    finally:
        handle.remove()
    return seen[0]


def _protected(layout: Layout) -> tuple[str, bool]:
    """Return the protected layer, and whether its rows (else its columns) are zeroed."""
    connected: Sequence[str] = [layer for layer in layer_slices(layout) if layer.startswith("fc")]
    if not connected:
        raise ConfigError("soteria protects a fully connected layer, of which this model has none.")
    return connected[0], len(connected) > 1


def _weight_and_bias(layout: Layout, layer: slice) -> tuple[str, str | None]:
    """Return the names of a layer's weight and bias."""
    names = [name for name, part in layout.slices().items() if layer.start <= part.start < layer.stop]
    return names[0], names[1] if len(names) > 1 else None
