"""Training loss of decoders that reconstruct inputs from model outputs."""

from __future__ import annotations

from torch import Tensor

from benchmark.metrics.images import mse, ssim


def reconstruction_loss(guess: Tensor, x: Tensor, *, mse_weight: float, ssim_weight: float) -> Tensor:
    """Return ``mse_weight * Huber + ssim_weight * (1 - SSIM)``, a scalar.

    For pixels in [0, 1] the Huber loss (delta 1) is MSE / 2.
    """
    return mse_weight * mse(guess, x).mean() / 2 + ssim_weight * (1 - ssim(guess, x).mean())
