"""Information in gradients about the samples behind them, without an attack: sensitivity and subspace distance.

Mo et al., *Quantifying (and Localizing) Information Leakage from Gradients*, arXiv 2105.13929.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap


def push_forward(function: Callable[[Tensor], Tensor], x: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``function(x)`` and its Jacobian at ``x`` times ``along``, by forward-mode differentiation."""
    with warnings.catch_warnings():
        # The first use makes torch load decompositions that it scripts in a way it has deprecated itself.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        value, change = jvp(function, (x,), (along,))  # type: ignore[misc]
    return value, change


def push_forward_each(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "*x"], along: Float[Tensor, " probes *x"]
) -> tuple[Float[Tensor, "*y"], Float[Tensor, " probes *y"]]:
    """Return ``function(x)`` and its Jacobian at ``x`` times each of the ``along``; the function is evaluated once."""
    return vmap(lambda one: push_forward(function, x, one), out_dims=(None, 0))(along)  # type: ignore[arg-type]


CHUNK = 128  # columns of a Jacobian at a time

GradientOf = Callable[[Tensor, Tensor], Tensor]
"""A sample (...) and its soft label (classes,) -> the gradient (d,)."""


def sensitivity(
    gradient_of: GradientOf,
    x: Float[Tensor, "n ..."],
    y: Float[Tensor, "n classes"],
    parts: dict[str, slice],
    probes: int,
    rng: torch.Generator,
) -> dict[str, Float[Tensor, " n"]]:
    """Return Frobenius norms of the Jacobian of each part of the gradient by the sample: part -> (n,), in [0, inf).

    ||J||_F^2 = E ||J u||^2 for u ~ N(0, I) (Hutchinson). One forward-mode product gives J u of all parts at once, where
    the transposed form v^T J needs a product for each.

    Args:
        x: (n, ...) samples; y: (n, classes) their labels; probes: draws of u for each.
    """
    total = {part: torch.zeros(len(x), device=x.device) for part in parts}
    product = vmap(lambda sample, label, along: push_forward(lambda s: gradient_of(s, label), sample, along)[1])
    for _ in range(probes):
        along = torch.randn(x.shape, generator=rng).to(x)
        change = product(x, y, along)
        for part, where in parts.items():
            total[part] += change[:, where].square().sum(dim=1)
    return {part: (squares / probes).sqrt() for part, squares in total.items()}


def jacobian_norms(
    gradient_of: GradientOf, sample: Float[Tensor, ...], label: Float[Tensor, " classes"], parts: dict[str, slice]
) -> dict[str, dict[str, float]]:
    """Return norms of every part's exact Jacobian (|part|, pixels) at one sample, for models small enough to hold it.

    ``frobenius``, ``one`` (largest column sum), ``infinity`` (largest row sum), and ``frobenius_by_range`` of the
    Jacobian over the range of its entries.
    """
    flat = sample.flatten()
    axes = torch.eye(len(flat)).to(flat)

    def gradient(pixels: Tensor) -> Tensor:
        return gradient_of(pixels.view_as(sample), label)

    whole = vmap(lambda axis: push_forward(gradient, flat, axis)[1], chunk_size=CHUNK)(axes).T
    return {part: _norms(whole[where]) for part, where in parts.items()}


def _norms(jacobian: Tensor) -> dict[str, float]:
    spread = (jacobian.max() - jacobian.min()).clamp_min(1e-20)
    return {
        "frobenius": jacobian.norm().item(),
        "one": jacobian.abs().sum(dim=0).max().item(),
        "infinity": jacobian.abs().sum(dim=1).max().item(),
        "frobenius_by_range": (jacobian / spread).norm().item(),
    }


def subspace_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], k: int) -> tuple[float, float]:
    """Return the distance between the spans of the top-k right singular vectors of two sets of rows.

    Returns:
        ||sin theta||_2 in [0, sqrt(k)] and ||theta||_2 in [0, pi/2 sqrt(k)] of the principal angles theta. ``k`` is cut
        to the smaller numerical rank; a set of rank 0 has distance 0 from everything.
    """
    from scipy.linalg import subspace_angles

    spans = [_top(rows, k) for rows in (a, b)]
    k = min(span.shape[1] for span in spans)
    if k == 0:
        return 0.0, 0.0
    angles = subspace_angles(spans[0][:, :k], spans[1][:, :k])
    return float(np.linalg.norm(np.sin(angles))), float(np.linalg.norm(angles))


def _top(rows: Tensor, k: int) -> np.ndarray:
    """Return the leading right singular vectors, (d, at most k), by the Gram matrix of the few rows."""
    rows = rows.double()
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    keep = (values > 1e-12 * values.max().clamp_min(1e-300)).nonzero().squeeze(1).flip(0)[:k]
    return ((rows.T @ vectors[:, keep]) / values[keep].sqrt()).cpu().numpy()


def beyond_random_split(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], k: int, splits: int, rng: torch.Generator
) -> float:
    """Return the sine distance between ``a`` and ``b``, less that between random halves of the pooled rows.

    Both are cut to equal counts, and the second is a mean over ``splits``. The difference is due to the attribute and
    not to dimension or counts.
    """
    count = min(len(a), len(b))
    pooled = torch.cat([a[:count], b[:count]])
    null = []
    for _ in range(splits):
        order = torch.randperm(2 * count, generator=rng).to(pooled.device)
        null.append(subspace_distance(pooled[order[:count]], pooled[order[count:]], k)[0])
    return subspace_distance(a[:count], b[:count], k)[0] - sum(null) / splits


def pair_contrast(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Return the excess distance of pairs of rows with different attributes over pairs with the same.

    As a share of the latter; 0 when the attribute leaves no trace.
    """
    half = min(len(a), len(b)) // 2
    across = torch.cat([a[:half] - b[:half], a[half : 2 * half] - b[half : 2 * half]])
    within = torch.cat([a[:half] - a[half : 2 * half], b[:half] - b[half : 2 * half]])
    return float(across.norm(dim=1).mean() / within.norm(dim=1).mean().clamp_min(1e-20) - 1)
