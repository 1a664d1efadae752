"""Backdoor triggers: pixels that a malicious party sets to white in an image."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError


def corner(shape: tuple[int, ...], size: int) -> Bool[Tensor, "height width"]:
    """Return bool (height, width), True in the square of ``size`` pixels in the lower right corner.

    Args:
        shape: of one image, (channels, height, width).

    Raises:
        ConfigError: the square does not fit.
    """
    height, width = shape[-2:]
    if not 0 < size <= min(height, width):
        raise ConfigError(f"threat.size must be between 1 and {min(height, width)} for images of {shape}, got {size}.")
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[height - size :, width - size :] = True
    return mask


def trigger_part(mask: Bool[Tensor, "height width"], index: int, count: int) -> Bool[Tensor, "height width"]:
    """Return the ``index``-th of ``count`` disjoint parts of a trigger, of nearly equal size.

    With more parts than pixels the parts repeat, so that none is empty.
    """
    pixels = mask.nonzero()
    pieces = torch.tensor_split(pixels, min(count, len(pixels)))
    chosen = pieces[index % len(pieces)]
    piece = torch.zeros_like(mask)
    piece[chosen[:, 0], chosen[:, 1]] = True
    return piece


def stamp(
    x: Float[Tensor, "n channels height width"], mask: Bool[Tensor, "height width"]
) -> Float[Tensor, "n channels height width"]:
    """Return images in [0, 1] with the pixels of ``mask`` set to white."""
    return x.masked_fill(mask.to(x.device), 1.0)


def stamped_goal(test: Split, mask: Bool[Tensor, "height width"], target: int) -> Split:
    """Return all samples of other classes than the target, stamped and with the target as label."""
    others = test[test.y != target]
    return Split(stamp(others.x, mask), torch.full_like(others.y, target))
