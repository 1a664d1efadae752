"""Noise removal from reconstructions by the statistics of the attacker's own samples."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

KEPT = 0.95  # share of the variance of the attacker's samples that the main components hold


def without_noise(
    x: Float[Tensor, "victims batch ..."], own: Float[Tensor, "n ..."]
) -> Float[Tensor, "victims batch ..."]:
    """Return guesses in [0, 1] after a Wiener filter in the principal components of the attacker's samples.

    Beyond the small variance that real samples have there, the part of a guess outside the main components is noise. So
    the filter measures the noise of every single guess and leaves a clean one unchanged.

    Args:
        x: guesses in [0, 1]; all-zero ones (nothing was found) stay zero.
        own: the attacker's samples.
    """
    flat, known = x.flatten(0, 1).flatten(1).double(), own.flatten(1).double()
    centre = known.mean(dim=0)
    _, strength, components = torch.linalg.svd(known - centre, full_matrices=False)
    variance = strength.square() / len(known)
    main = int((variance.cumsum(0) < KEPT * variance.sum()).sum()) + 1
    if main == len(variance):
        return x
    inside = (flat - centre) @ components.T
    outside = (flat - centre).square().sum(dim=1) - inside[:, :main].square().sum(dim=1)
    expected = variance[main:].sum()
    noise = ((outside - expected).clamp_min(0) / (flat.shape[1] - main))[:, None]
    kept = centre + (inside * variance / (variance + noise + 1e-12)) @ components
    noisy = (noise > variance[main:].mean()) & (flat.abs().sum(dim=1, keepdim=True) > 0)
    return torch.where(noisy, kept, flat).clamp(0, 1).to(x).view_as(x)
