"""Usable information: bits of a secret that a family of predictors can extract from its inputs.

Xu, Zhao, Song, Stewart, Ermon, *A Theory of Usable Information under Computational Constraints*, ICLR 2020, Definitions
1 and 2: I_V(X -> Y) = H_V(Y | nothing) - H_V(Y | X), both conditional entropies being infima over the family V of the
expected negative log-likelihood. Mo et al. (arXiv 2105.13929) take attack models on the gradient of one layer as V.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

RESAMPLES = 500


def latent_gains(
    log_probabilities: Float[Tensor, "n values"], secret: Int[Tensor, " n"], prior: Float[Tensor, " values"]
) -> Float[Tensor, " n"]:
    """Return the bits that each prediction gains over the constant one; their mean estimates I_V and may be negative.

    Args:
        log_probabilities: (n, values), natural logarithms of the predicted distribution of each secret.
        secret: int64 (n,); prior: (values,), natural logarithms of the constant prediction.
    """
    chosen = log_probabilities.gather(1, secret[:, None]).squeeze(1)
    return (chosen - prior[secret]).double() / math.log(2)


def original_bits(
    guess: Float[Tensor, " n *sample"], truth: Float[Tensor, " n *sample"], constant: Float[Tensor, " n *sample"]
) -> float:
    """Return the bits a pixel of ``truth`` in ``guess`` beyond ``constant``, in (-inf, inf): 1/2 log2(MSE ratio).

    I_V of a Gaussian head with isotropic variance, over the number of pixels. A perfect copy counts as a PSNR of 60 dB.

    Args:
        guess, truth: (n, ...) in [0, 1]; constant: the same shape, what is guessed without seeing anything.
    """
    least = 1e-6  # 60 dB
    blind = (constant - truth).square().mean().clamp_min(least)
    seeing = (guess - truth).square().mean().clamp_min(least)
    return 0.5 * math.log2(float(blind / seeing))


def interval(gains: Float[Tensor, " n"], rng: torch.Generator) -> tuple[float, float]:
    """Return the bootstrap interval (95 %, percentile) of the mean of ``gains``."""
    rows = torch.randint(len(gains), (RESAMPLES, len(gains)), generator=rng)
    means = gains.cpu()[rows].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high
