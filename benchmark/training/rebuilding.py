"""The loss by which decoders of model outputs are trained."""

from __future__ import annotations

from torch import Tensor

from benchmark.metrics.images import mse, ssim


def rebuilding_loss(guess: Tensor, x: Tensor, *, mse_weight: float, ssim_weight: float) -> Tensor:
    """``mse_weight * Huber + ssim_weight * (1 - SSIM)``, a scalar; for pixels in [0, 1] Huber (delta 1) is MSE / 2."""
    return mse_weight * mse(guess, x).mean() / 2 + ssim_weight * (1 - ssim(guess, x).mean())
