"""Conversion between images and square blocks."""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional as F


def to_blocks(
    x: Shaped[Tensor, "n channels height width"], block: int
) -> Shaped[Tensor, "n channels positions block block"]:
    """Return (n, channels, height, width) as (n, channels, positions, block, block), padded with edge values."""
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % block, 0, -height % block), mode="replicate")
    cut = x.unfold(2, block, block).unfold(3, block, block)
    return cut.flatten(2, 3)


def from_blocks(
    blocks: Shaped[Tensor, "n channels positions block block"], size: tuple[int, int]
) -> Shaped[Tensor, "n channels height width"]:
    """Invert :func:`to_blocks` for images of the (padded) ``size``."""
    n, channels, _, edge, _ = blocks.shape
    grid = blocks.reshape(n, channels, size[0] // edge, size[1] // edge, edge, edge)
    return grid.transpose(3, 4).reshape(n, channels, *size)
