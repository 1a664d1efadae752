"""Distance of altered inputs from clean ones, and sensitivity of a classifier's outputs to its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHANGED = 1e-6  # a difference that rounding can make is no change


def distortion(
    clean: Float[Tensor, " n *sample"], altered: Float[Tensor, " n *sample"]
) -> dict[str, Float[Tensor, " n"]]:
    """Return distances of each altered input from the clean one; lower is a better attack.

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


def effort(
    clean: Float[Tensor, " n *sample"],
    altered: Float[Tensor, " n *sample"],
    succeeded: Bool[Tensor, " n"],
    victim: Int[Tensor, " n"],
    radius: float,
) -> dict[str, float]:
    """Return the distances of attacks, as means over those that succeeded; read them beside the success rate.

    Args:
        clean, altered: (n, ...); succeeded: bool (n,); victim: int64 (n,), attacks on one input share a number.
        radius: see ``within_radius``.

    Returns:
        ``rho_adv_least`` and ``rho_adv_most``: bounds of Papernot et al.'s robustness, the mean share of features, in
        [0, 1], that have to change. A failure only says that more had to change than did before it ended, so it counts
        as that share in the first and as all features in the second; the two meet where every attack succeeds.
        ``within_radius``: share of all attacks, in [0, 1], that succeed with an L2 change of at most ``radius``. Where
        any succeeded, over the successes alone: the means of :func:`distortion`, the medians of ``l2`` and ``linf``,
        and ``l2_best_target`` and ``l2_worst_target``, the means over victims of the least and largest L2 over targets.
    """
    distances = distortion(clean, altered)
    changed, l2 = distances["features_changed"], distances["l2"]
    found = {
        "rho_adv_least": changed.mean().item(),
        "rho_adv_most": changed.where(succeeded, torch.ones_like(changed)).mean().item(),
        "within_radius": (succeeded & (l2 <= radius)).double().mean().item(),
    }
    if succeeded.any():
        found |= {name: distance[succeeded].mean().item() for name, distance in distances.items()}
        found |= {f"median_{name}": distances[name][succeeded].median().item() for name in ("l2", "linf")}
        met = victim[succeeded].unique()
        each = [l2[succeeded & (victim == number)] for number in met]
        found["l2_best_target"] = torch.stack([own.min() for own in each]).mean().item()
        found["l2_worst_target"] = torch.stack([own.max() for own in each]).mean().item()
    return found


def by_decade(log10: Float[Tensor, " n"], decades: int = 46) -> list[float]:
    """Return the share of amplitudes, in [0, 1], in [10^-(k+1), 10^-k), for k = 0, 1, ...

    The first entry also counts what is larger, the last what is smaller (float32 ends at 1e-45).

    Args:
        log10: logarithms of the amplitudes, -inf for an amplitude of 0.
    """
    power = (-log10.double()).ceil().sub(1).clamp(0, decades - 1).long()
    return (power.bincount(minlength=decades).double() / len(log10)).tolist()


def sensitivity(model: Callable[[Tensor], Tensor], x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Return the mean of ``|d softmax(model(x))_i / d x_j|`` over classes i and features j, in the precision of ``x``.

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


def log10_sensitivity(model: Callable[[Tensor], Tensor], x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Return ``log10`` of :func:`sensitivity` where that itself underflows, as it does at a high temperature.

    The Jacobian of the softmax p in terms of that of the logits z is ``dp_i/dx = sum over k of p_i p_k (dz_i/dx -
    dz_k/dx)``. The products are kept as logarithms up to the largest one, and the term k = i, which is 0, is left out,
    so nothing small is the difference of large numbers. It is -inf where the logits do not depend on x at all.

    Args:
        model: (n, ...) -> logits (n, classes); in double precision, as should be ``x``.
    """
    x = x.detach().requires_grad_()
    logits = model(x)
    classes = logits.shape[1]
    rows = [
        torch.autograd.grad(logits[:, label].sum(), x, retain_graph=label < classes - 1)[0].flatten(1)
        for label in range(classes)
    ]
    jacobian = torch.stack(rows, dim=1)
    log_p = logits.detach().log_softmax(dim=1)
    log_pairs = log_p.unsqueeze(2) + log_p.unsqueeze(1)
    log_pairs.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    largest = log_pairs.amax(dim=(1, 2), keepdim=True)
    pairs = (log_pairs - largest).exp()
    scaled = pairs.sum(dim=2, keepdim=True) * jacobian - pairs @ jacobian
    return scaled.abs().mean(dim=(1, 2)).log10() + largest.flatten() / math.log(10)
