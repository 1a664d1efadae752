"""Codebook attack: released blocks are looked up among blocks known in both forms.

The known-pairs attack on AES disguising of Sharma, Gu, Chen, 2022 (arXiv 2301.00252), level 2; blocks are aligned as
blocks, not as flat rows. The plain form takes the order of blocks as it is. The adaptive form knows the mechanism: it
solves for the secret permutation by which known samples agree in a block, a pattern that encryption preserves.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmark.data.blocks import to_blocks
from benchmark.metrics.distances import nearest
from benchmark.parameters import Count
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.threats.reconstruction.block_images import image_of_blocks

VERSION = 2
LEVELS = 255
SAME = 0.5  # grey levels
SAME_PIXELS = 1e-4


class Codebook(ReleaseThreat):
    """Attack with a dictionary from released to private blocks of the known pairs.

    Unseen blocks become the most similar seen one, or where blocks are known to be encrypted, so that similarity means
    nothing, the usual one (:func:`usual_unseen`).

    Args:
        pairs: q, number of known pairs.
        block: edge of a released block that the adversary assumes; the adaptive form takes the published one.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("examiner_accuracy", 0.5)
    knowledge = frozenset({"known_pairs"})

    def __init__(self, *, pairs: Count = 10, block: Count = 4, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.pairs, self.block = pairs, block

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        facts = surface.published if self.adaptive else {}
        released = facts.get("block", self.block)
        grown = max(1, round(surface.targets.shape[-1] / surface.shape[-1]))
        edge = max(1, released // grown)
        plain = to_blocks(surface.pairs.plain, edge)
        known, targets = codes(surface.pairs.encoded, released), codes(surface.targets, released)
        source = torch.arange(len(known))
        if self.adaptive:
            source = permutation(known, plain.flatten(-2).movedim(2, 0))
        blocks = plain.movedim(2, 0)[source]  # (positions, pairs, channels, b, b), in the order of the release
        x, hits = look_up(
            targets, known, blocks, everywhere=facts.get("one_cipher", False), similar="cipher" not in facts
        )
        recovered = torch.empty_like(x)
        recovered[source] = x
        image = image_of_blocks(recovered.movedim(0, 2), surface.shape)
        varied = x.flatten(start_dim=3).std(dim=3) > 0
        guess = Reconstruction(image.clamp(0, 1).unsqueeze(1))
        guess.diagnostics["hit_rate"] = hits.double().mean().item()
        guess.diagnostics["varied_hit_rate"] = (hits & varied).double().mean().item()
        return guess


def codes(images: Float[Tensor, "n channels height width"], block: int) -> Float[Tensor, "positions n channels e"]:
    """Return the grey levels of every block, in flat form."""
    return (to_blocks(images, block) * LEVELS).round().flatten(-2).movedim(2, 0)


def look_up(
    targets: Float[Tensor, "positions n channels e"],
    known: Float[Tensor, "positions q channels e"],
    blocks: Float[Tensor, "positions q channels b b"],
    *,
    everywhere: bool,
    similar: bool,
) -> tuple[Float[Tensor, "positions n channels b b"], Bool[Tensor, "positions n channels"]]:
    """Return the private block behind each target block, and whether its code is known.

    Args:
        targets: (positions, n, channels, e) codes.
        known: (positions, q, channels, e) codes.
        blocks: (positions, q, channels, b, b) the private blocks behind ``known``.
        everywhere: a code has the same meaning at every position.
        similar: blocks of unknown code become the one of the nearest known code, else :func:`usual_unseen`.

    Returns:
        (positions, n, channels, b, b) and bool (positions, n, channels).
    """
    positions, n, channels, _ = targets.shape
    shape = (n, channels, *blocks.shape[-2:])
    found, hits = [], []
    usual = usual_unseen(blocks)
    for d in range(positions):
        book, values = (known, blocks) if everywhere else (known[d], blocks[d])
        distance, entry = nearest(targets[d].flatten(0, 1), book.flatten(end_dim=-2))
        value = values.flatten(end_dim=-3)[entry]
        hit = distance < SAME
        found.append(torch.where((hit[:, None, None] | similar).view(*shape[:2], 1, 1), value.view(shape), usual[d]))
        hits.append(hit.view(n, channels))
    return torch.stack(found), torch.stack(hits)


def usual_unseen(blocks: Float[Tensor, "positions q channels b b"]) -> Float[Tensor, "positions channels b b"]:
    """Return the mean of the known blocks that are not of one colour, or of all where there is none such.

    Blocks of one colour, such as a black background, are soon all known: one that isn't known is of another kind.
    """
    varied = (blocks.flatten(start_dim=3).std(dim=3) > 0).to(blocks)
    weight = torch.where(varied.sum(dim=1, keepdim=True) > 0, varied, 1.0)[..., None, None]
    return (blocks * weight).sum(dim=1) / weight.sum(dim=1)


def permutation(
    known: Float[Tensor, "positions q channels e"], plain: Float[Tensor, "positions q channels f"]
) -> Int[Tensor, " positions"]:
    """Return the private position of each released one.

    Equal private blocks of two samples give equal released ones, so both positions show the same pattern of agreement.

    Args:
        known: released codes.
        plain: private blocks.
    """
    released, private = (agreements((part * 1.0).flatten(2)) for part in (known, plain))
    cost = released @ (1 - private).T + (1 - released) @ private.T
    _, source = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(source, device=known.device)


def agreements(rows: Float[Tensor, "positions q d"]) -> Float[Tensor, "positions pairs"]:
    """Return 1.0 for each of the q * q pairs of samples that are equal at a position, else 0.0."""
    equal = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist") < SAME_PIXELS
    return equal.double().flatten(1)
