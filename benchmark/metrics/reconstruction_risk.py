"""Reconstruction risk R: how much nearer to the private sample a guess is than the mean of the data.

Malekzadeh, Gunduz, *Vicious Classifiers*, arXiv 2212.04223: R = d_S(x, mu) / d_S(x, guess) with the Mahalanobis
distance d_S of the data's covariance S. 1 means no better than the mean image; higher is worse for the owner of x.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FLOAT32_EPSILON = 1.19e-7
RISK_CAP = 100.0


@dataclass(frozen=True)
class Pixels:
    """Mean (d,) and covariance (d, d) of flattened samples, in float64; from training data, never from test data."""

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]

    @classmethod
    def of(cls, x: Float[Tensor, "n ..."]) -> Pixels:
        """Return mean and covariance of at least two samples."""
        flat = x.flatten(start_dim=1).double()
        return cls(flat.mean(dim=0), flat.T.cov())


def reconstruction_risk(
    x: Float[Tensor, " n *sample"],
    guess: Float[Tensor, " n *sample"],
    pixels: Pixels,
    *,
    ridge: float | None = None,
    rtol: float | None = None,
    variance: float | None = None,
) -> Float[Tensor, " n"]:
    """Return R per sample, in [0, 100]: capped, so that one perfect copy does not make a mean infinite.

    Args:
        x, guess: (n, ...) in [0, 1].
        ridge: use (S + ridge I)^-1, which keeps the order of attacks right where pixels hardly vary (1e-2 for pixels in
            [0, 1]). None: the pseudo-inverse of S, as the authors do; it can invert that order.
        rtol: eigenvalues below rtol times the largest are cut from the pseudo-inverse. None: d times float32's
            epsilon, what the authors' ``torch.linalg.pinv`` does.
        variance: keep only the directions of largest variance that together hold this share of it, in (0, 1]; without
            a ridge this leaves out the directions in which data hardly vary.
    """
    values, vectors = torch.linalg.eigh(pixels.covariance)
    if ridge is None:
        cut = (len(values) * FLOAT32_EPSILON if rtol is None else rtol) * values[-1]
        weights = torch.where(values > cut, 1 / values.clamp_min(cut), 0.0)
    else:
        weights = 1 / (values.clamp_min(0) + ridge)
    if variance is not None:
        held = values.flip(0).clamp_min(0).cumsum(0) / values.clamp_min(0).sum()
        kept = int((held < variance).sum()) + 1
        weights[: len(weights) - kept] = 0.0
    scale = vectors * weights.sqrt()
    flat = x.flatten(start_dim=1).double()
    to_mean = ((flat - pixels.mean) @ scale).norm(dim=1)
    to_guess = ((flat - guess.flatten(start_dim=1).double()) @ scale).norm(dim=1)
    return to_mean / to_guess.clamp_min(to_mean.clamp_min(1e-12) / RISK_CAP)
