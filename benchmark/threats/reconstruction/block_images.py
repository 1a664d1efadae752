"""Images put together from the blocks that an attack has guessed."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from benchmark.data.blocks import from_blocks


def image_of_blocks(
    blocks: Float[Tensor, "n channels positions edge edge"], shape: tuple[int, ...]
) -> Float[Tensor, "n channels height width"]:
    """Return images of ``shape`` (channels, height, width) from their blocks, without the padding of the last ones."""
    height, width = shape[-2:]
    edge = blocks.shape[-1]
    padded = (-(-height // edge) * edge, -(-width // edge) * edge)
    return from_blocks(blocks, padded)[..., :height, :width]
