"""Chosen plaintexts (level 3): an adversary who can have images encoded learns the map without any other pair.

Our addition to the levels of Sharma, Gu, Chen, 2022 (arXiv 2301.00252). The adversary has these encoded: a white block
on black at every position, which reveals the order of blocks; random images, which determine a linear map; one block at
all positions, which shows whether all positions share a key; and images of its own, whose blocks make a codebook.
Blocks that are not in the codebook are decoded by the linear maps, or replaced by the usual block of its own images
where held-out images show that the map is not linear. Only the size of a block has to be known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmark.data.blocks import to_blocks
from benchmark.errors import Refused
from benchmark.parameters import Count, Positive
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.threats.reconstruction.block_images import image_of_blocks
from benchmark.threats.reconstruction.codebook import codes, look_up, usual_unseen
from benchmark.threats.reconstruction.regression_known_pairs import rows

VERSION = 2
KEPT_BACK = 8


class ChosenPlaintext(ReleaseThreat):
    """Attack that queries the owner's map and decodes the targets by a codebook and by linear maps.

    Args:
        queries: images encoded beside the probes of positions: half of them random, half its own; at least 32.
        block: edge of a block that the adversary assumes; the adaptive form takes the published one.
        ridge: penalty of the linear maps, for pixels in [0, 1].
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("examiner_accuracy", 0.7)
    knowledge = frozenset({"map", "attacker_data"})

    def __init__(
        self,
        *,
        queries: Annotated[int, Ge(32)] = 800,
        block: Count = 4,
        ridge: Positive = 0.001,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.queries, self.block, self.ridge = queries, block, ridge

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        released = surface.published.get("block", self.block) if self.adaptive else self.block
        edge = max(1, released // max(1, round(surface.targets.shape[-1] / surface.shape[-1])))
        own = surface.attacker.x[: self.queries // 2]
        noise = torch.rand((self.queries - len(own), *surface.shape), generator=rng).to(own)
        order = order_by_probes(surface, edge, released)
        seen, kept = own[KEPT_BACK:], own[:KEPT_BACK]
        plain, encoded = torch.cat([noise, seen]), surface.encode(torch.cat([noise, seen]))
        flat = surface.encode(repeated_block(surface.shape, edge, rng).to(own))
        cells = codes(flat, released)
        shared = bool((cells == cells[:1]).all())
        linear = self._maps(encoded, plain, order, edge, released)

        def by_linear_maps(x: Tensor) -> Tensor:
            guessed = with_ones(rows(to_blocks(x, released), True)) @ linear
            shape = (len(x), surface.shape[0], -1, edge, edge)
            return guessed.unflatten(1, shape[:2]).movedim(0, 2).reshape(shape)

        def average(x: Tensor) -> Tensor:
            usual = usual_unseen(to_blocks(seen, edge).movedim(2, 0)[order])
            return usual.movedim(0, 1).expand(len(x), -1, -1, -1, -1)

        def image(blocks: Tensor) -> Tensor:
            placed = torch.empty_like(blocks)
            placed[:, :, order] = blocks
            return image_of_blocks(placed, surface.shape).clamp(0, 1)

        blocks, book = to_blocks(plain, edge).movedim(2, 0)[order], codes(encoded, released)

        def decoded(x: Tensor, rest: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
            values, hits = look_up(codes(x, released), book, blocks, everywhere=shared, similar=False)
            hits, values = hits.movedim(0, 2), values.movedim(0, 2)
            return image(torch.where(hits[..., None, None], values, rest(x))), hits

        test, ways = surface.encode(kept), {"linear": by_linear_maps, "average": average}
        rest = min(ways, key=lambda name: (decoded(test, ways[name])[0] - kept).square().mean().item())
        x, hits = decoded(surface.targets, ways[rest])
        return Reconstruction(x.unsqueeze(1), diagnostics={"rest": rest, "hit_rate": hits.double().mean().item()})

    def _maps(self, encoded: Tensor, plain: Tensor, order: Tensor, edge: int, released: int) -> Tensor:
        """Return the affine maps (positions, e + 1, f) from released to private blocks, by ridge regression."""
        inputs, wanted = with_ones(rows(to_blocks(encoded, released), True)), rows(to_blocks(plain, edge), True)[order]
        gram = inputs.transpose(1, 2) @ inputs
        gram.diagonal(dim1=1, dim2=2).add_(self.ridge)
        return torch.linalg.solve(gram, inputs.transpose(1, 2) @ wanted)


def order_by_probes(surface: ReleaseSurface, edge: int, released: int) -> Tensor:
    """Return the private position, int64 (positions,), of each released one, found by a white block on black.

    Raises:
        Refused: released rows do not have as many blocks as private samples.
    """
    channels, height, width = surface.shape
    count = -(-height // edge) * -(-width // edge)
    blocks = torch.zeros((count + 1, channels, count, edge, edge), device=surface.targets.device)
    place = torch.arange(count, device=blocks.device)
    blocks[place, :, place] = 1.0
    found = to_blocks(surface.encode(image_of_blocks(blocks, surface.shape)), released)
    if found.shape[2] != count:
        raise Refused(f"Released rows have {found.shape[2]} blocks and private samples {count}: no block is another's.")
    change = (found[:-1] - found[-1:]).abs().sum(dim=(1, 3, 4))  # (private, released)
    private, position = linear_sum_assignment(change.cpu().numpy(), maximize=True)
    order = torch.empty(count, dtype=torch.int64, device=blocks.device)
    order[torch.as_tensor(position, device=blocks.device)] = torch.as_tensor(private, device=blocks.device)
    return order


def with_ones(vectors: Tensor) -> Tensor:
    """Return (..., n, e) extended to (..., n, e + 1), for affine maps (the shift is the mean of noise)."""
    return torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)


def repeated_block(shape: tuple[int, ...], edge: int, rng: torch.Generator) -> Tensor:
    """Return an image (1, ...) with one random block at all positions, the same in all channels."""
    block = torch.rand((edge, edge), generator=rng)
    tiled = block.repeat(-(-shape[1] // edge), -(-shape[2] // edge))[: shape[1], : shape[2]]
    return tiled.expand(1, *shape).clone()
