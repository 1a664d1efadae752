"""How far an altered input is from the clean one, and how much a classifier's outputs move with its inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHANGED = 1e-6  # a difference that rounding can make is no change


def distortion(clean: Tensor, altered: Tensor) -> dict[str, Tensor]:
    """Distances of each altered input, each (n,); lower is a better attack.

    Args:
        clean, altered: (n, ...).

    Returns:
        ``features_changed``: share of the features, in [0, 1]; ``l2``: Euclidean; ``linf``: the largest change.
    """
    change = (altered - clean).flatten(1).abs()
    return {
        "features_changed": (change > CHANGED).float().mean(dim=1),
        "l2": change.norm(dim=1),
        "linf": change.amax(dim=1),
    }


def sensitivity(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean of ``|d softmax(model(x))_i / d x_j|`` over classes i and features j, (n,), in the precision of ``x``.

    Papernot et al. 2016, section V-C ("amplitude of the Jacobian"): values near 0 mean that gradients do not tell an
    attacker where to go, not that no adversarial input exists.

    Args:
        model: (n, ...) -> logits (n, classes).
    """
    x = x.detach().requires_grad_()
    probabilities = model(x).softmax(dim=1)
    classes = probabilities.shape[1]
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for label in range(classes):
        (row,) = torch.autograd.grad(probabilities[:, label].sum(), x, retain_graph=label < classes - 1)
        total += row.flatten(1).abs().mean(dim=1)
    return total / classes
