"""Similarity of images in [0, 1], as one number an image."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

PSNR_CAP_DB = 60.0
RECOVERED_DB = 20.0
SSIM_WINDOW = 7
C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 of Wang et al. 2004 for a data range L = 1


def mse(guess: Float[Tensor, " n *sample"], truth: Float[Tensor, " n *sample"]) -> Float[Tensor, " n"]:
    """Return the mean squared error per sample, in [0, 1] for images; 0 is a copy."""
    return (guess - truth).square().flatten(start_dim=1).mean(dim=1)


def psnr_db(guess: Float[Tensor, " n *sample"], truth: Float[Tensor, " n *sample"]) -> Float[Tensor, " n"]:
    """Return the peak signal-to-noise ratio in dB for a data range of 1, in [0, 60]; higher is more similar.

    -10 log10(mse), capped at 60 dB so that one perfect copy does not make a mean infinite.
    """
    floor = 10 ** (-PSNR_CAP_DB / 10)
    return -10 * mse(guess, truth).clamp_min(floor).log10()


def ssim(
    guess: Float[Tensor, "n channels height width"], truth: Float[Tensor, "n channels height width"]
) -> Float[Tensor, " n"]:
    """Return the structural similarity (Wang et al. 2004), in [-1, 1]; 1 is a copy. Differentiable in ``guess``.

    Uniform 7x7 windows that lie inside the image, data range 1, K1 = 0.01, K2 = 0.03: scikit-image's default, but with
    population instead of sample covariances. Images with a side below 7 use the largest odd window that fits.

    Written out because torchmetrics also averages windows over a mirrored border, which raises the value on small
    images, and takes seconds to import; tests hold the windows inside against torchmetrics.

    Raises:
        ValueError: a side is below 3, so that no window has a variance.
    """
    side = min(truth.shape[-2:])
    if side < 3:
        raise ValueError(f"SSIM needs images of at least 3x3 pixels, got {tuple(truth.shape[-2:])}.")
    window = min(SSIM_WINDOW, side if side % 2 else side - 1)

    def average(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, window, stride=1)

    mean_a, mean_b = average(guess), average(truth)
    variance_a = average(guess.square()) - mean_a.square()
    variance_b = average(truth.square()) - mean_b.square()
    covariance = average(guess * truth) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    contrast_structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return (luminance * contrast_structure).flatten(start_dim=1).mean(dim=1)


def variation(x: Float[Tensor, "n channels height width"]) -> Float[Tensor, " n"]:
    """Return the total variation of each image: mean absolute differences of neighbours, down plus right; 0 is flat."""
    down, right = (x[..., 1:, :] - x[..., :-1, :]).abs(), (x[..., :, 1:] - x[..., :, :-1]).abs()
    return down.flatten(1).mean(dim=1) + right.flatten(1).mean(dim=1)


def match(guess: Float[Tensor, " n *sample"], truth: Float[Tensor, " n *sample"]) -> Int[Tensor, " n"]:
    """Return the assignment with the least total MSE: ``guess[match(guess, truth)]`` is aligned with ``truth``.

    Args:
        guess, truth: (n, ...), finite, the same shape.

    Returns:
        int64 (n,), a permutation.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = truth.flatten(start_dim=1).double(), guess.flatten(start_dim=1).double()
    _, columns = linear_sum_assignment(torch.cdist(a, b).square().cpu().numpy())
    return torch.as_tensor(columns, device=guess.device)


def recovered_share(psnr: Float[Tensor, " n"]) -> float:
    """Return the share of images, in [0, 1], whose PSNR is above 20 dB; higher is worse for their owner."""
    return (psnr > RECOVERED_DB).double().mean().item()
