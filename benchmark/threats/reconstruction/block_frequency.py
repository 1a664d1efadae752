"""Frequency analysis of encrypted blocks: the most common ciphertexts are the most common plain blocks.

A ciphertext-only attack (level 1) on AES disguising, where equal blocks stay equal (Sharma, Gu, Chen, 2022 (arXiv
2301.00252) use the electronic codebook on purpose). It uses no key and no pair: the adversary compares statistics of
the release with those of its own images. The most common block of a position (the background) gives an outline;
correlations between outlines reveal the secret order of blocks; and how often, where and beside which outlines a block
occurs identifies it. Labels are not used, since a guess by labels would show the class of an image and nothing of the
image.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment, quadratic_assignment
from torch import Tensor

from benchmark.data.blocks import to_blocks
from benchmark.errors import Refused
from benchmark.parameters import Count
from benchmark.seeds import child
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.threats.reconstruction.block_images import image_of_blocks
from benchmark.threats.reconstruction.codebook import codes

VERSION = 1
COMMON = 3  # occurrences below which a block is not identified
RIDGE = 1.0
HALF = 0.5  # added to counts, so that unseen events keep a positive probability


class BlockFrequency(ReleaseThreat):
    """Attack that identifies the most common released blocks and predicts rare ones from the outline around them.

    Args:
        block: edge of a released block that the adversary assumes; the adaptive form takes the published one.
        told: largest number of common blocks that are identified for each key: in all, or at each position.
        restarts: of the search for the order of blocks.
        adaptive: the adversary knows the mechanism: it solves for the order of blocks and knows whether one key
            encrypts all positions.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("examiner_accuracy", 0.3)
    knowledge = frozenset({"attacker_data"})

    def __init__(self, *, block: Count = 4, told: Count = 200, restarts: Count = 10, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.block, self.told, self.restarts = block, told, restarts

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        facts = surface.published if self.adaptive else {}
        released = facts.get("block", self.block)
        grown = max(1, round(surface.targets.shape[-1] / surface.shape[-1]))
        edge = max(1, released // grown)
        everywhere = facts.get("one_cipher", True)
        asked = len(surface.targets) * surface.targets.shape[1]
        seen = fingerprints(codes(torch.cat([surface.targets, surface.x]), released), everywhere)
        own = fingerprints(codes(surface.attacker.x, edge), everywhere)
        if len(seen) != len(own):
            raise Refused(f"A release of {len(seen)} blocks an image is not made of images of {len(own)} blocks each.")
        if self.adaptive:
            order = order_of_blocks(outline(seen[:, asked:]), outline(own), self.restarts, rng)
            seen = seen[order.argsort()]  # position by position as in a private image
        positions = torch.arange(len(own))
        groups = [positions] if everywhere else list(positions.unsqueeze(1))
        blocks = to_blocks(surface.attacker.x, edge).movedim(2, 0).flatten(1, 2)
        told = [told_blocks(seen, own, blocks, group, asked, self.told) for group in groups]
        values, known = (torch.cat(parts) for parts in zip(*told, strict=True))
        expected = by_outline(outline(own), blocks, outline(seen)[:, :asked])
        drawn = torch.where(known[..., None, None], values, expected)
        drawn = drawn.unflatten(1, (len(surface.targets), -1)).movedim(0, 2)
        image = image_of_blocks(drawn, surface.shape)
        share = known.double().mean().item()
        return Reconstruction(image.clamp(0, 1).unsqueeze(1), diagnostics={"told_share": share})


def told_blocks(
    seen: Tensor, own: Tensor, blocks: Tensor, group: Tensor, asked: int, count: int
) -> tuple[Tensor, Tensor]:
    """Return blocks (g, asked, b, b) at the positions ``group`` of one key, and which are identified, bool (g, asked).

    Args:
        seen: (positions, asked + n) fingerprints of released blocks.
        own: (positions, m) fingerprints of the adversary's blocks.
        blocks: (positions, m, b, b), the adversary's own.
        asked: number of targets.
        count: number of common blocks that are identified.
    """
    theirs, ours = (common(ids[group], count) for ids in (seen[:, asked:], own))
    released = sites(seen[group, asked:], theirs, outline(seen[:, asked:]))
    match = best_match(released, sites(own[group], ours, outline(own)))
    place, mine = lookup(seen[group, :asked], theirs), lookup(own[group], ours).flatten()
    if not len(ours) or not len(theirs):
        return torch.zeros((*place.shape, *blocks.shape[-2:]), device=blocks.device), place >= 0
    first = torch.stack([(mine == number).int().argmax() for number in range(len(ours))])
    return blocks[group].flatten(0, 1)[first[match[place]]], (place >= 0) & (match[place] >= 0)


def by_outline(own: Tensor, blocks: Tensor, asked: Tensor) -> Tensor:
    """Return the expected blocks (positions, n, b, b) given the outlines, by ridge regression.

    Args:
        own: (positions, m) outlines of the adversary's images.
        blocks: (positions, m, b, b) their blocks.
        asked: (positions, n) outlines of the targets.
    """
    features, wanted = (torch.cat([part.T, torch.ones_like(part[:1]).T], dim=1) for part in (own, asked))
    values = blocks.movedim(0, 1).flatten(1).double()
    gram = features.T @ features + RIDGE * torch.eye(features.shape[1], dtype=torch.float64, device=features.device)
    drawn = wanted @ torch.linalg.solve(gram, features.T @ values)
    return drawn.unflatten(1, blocks.shape[:1] + blocks.shape[2:]).movedim(1, 0).to(blocks)


def fingerprints(blocks: Tensor, everywhere: bool) -> Tensor:
    """Return equal numbers for equal blocks: (positions, n, channels, e) grey levels -> (positions, n').

    Args:
        everywhere: equal blocks are equal at all positions; otherwise blocks of two positions never are.
    """
    weights = torch.randint(-(2**62), 2**62, (blocks.shape[-1],), generator=torch.Generator().manual_seed(0))
    numbers = (blocks.long() * weights.to(blocks.device)).sum(dim=-1).flatten(1)
    if everywhere:
        return numbers
    return numbers + torch.arange(len(numbers), device=numbers.device).unsqueeze(1) * 0x9E3779B97F4A7C1


def outline(numbers: Int[Tensor, "positions n"]) -> Float[Tensor, "positions n"]:
    """Return 1.0 where a block is the most common one of its position, else 0.0."""
    return (numbers == numbers.mode(dim=1).values.unsqueeze(1)).double()


def order_of_blocks(
    released: Float[Tensor, "positions n"], own: Float[Tensor, "positions m"], restarts: int, rng: torch.Generator
) -> Int[Tensor, " positions"]:
    """Return the private position of each released one, from correlations of outlines.

    It is the permutation under which both covariances agree most: a quadratic assignment, solved by restarts of the
    fast approximate algorithm (Vogelstein et al., *Fast Approximate Quadratic Programming for Graph Matching*, PLOS ONE
    2015), each improved by exchanges.
    """
    theirs, ours = (np.cov(part.cpu().numpy(), bias=True) for part in (released, own))
    best = None
    for _ in range(restarts):
        options = {"maximize": True, "rng": np.random.default_rng(child(rng))}
        start = quadratic_assignment(theirs, ours, options={**options, "P0": "randomized"}).col_ind
        guess = np.stack([np.arange(len(start)), start], axis=1)
        found = quadratic_assignment(theirs, ours, method="2opt", options={**options, "partial_guess": guess})
        best = found if best is None or found.fun > best.fun else best
    assert best is not None
    return torch.as_tensor(best.col_ind)


def common(numbers: Tensor, count: int) -> Tensor:
    """Return at most ``count`` most common fingerprints that occur at least ``COMMON`` times, sorted."""
    found, counts = numbers.unique(return_counts=True)
    often = counts.argsort(descending=True)[:count]
    return found[often[counts[often] >= COMMON]].sort().values


def lookup(numbers: Int[Tensor, " *shape"], vocabulary: Int[Tensor, " k"]) -> Int[Tensor, " *shape"]:
    """Return the index of each fingerprint in the sorted ``vocabulary``, -1 where it is missing."""
    if not len(vocabulary):
        return torch.full_like(numbers, -1)
    place = torch.searchsorted(vocabulary, numbers).clamp_max(len(vocabulary) - 1)
    return torch.where(vocabulary[place] == numbers, place, -1)


def sites(numbers: Tensor, vocabulary: Tensor, outlines: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return where and beside which outlines the blocks of the vocabulary occur.

    Args:
        numbers: (g, n) fingerprints.
        vocabulary: (k,).
        outlines: (positions, n).

    Returns:
        (k, g) occurrences by position; (k, positions) how many of these are beside the most common block of each
            position; and n.
    """
    place, k, (g, n) = lookup(numbers, vocabulary), len(vocabulary), numbers.shape
    row, sample = (place >= 0).nonzero(as_tuple=True)
    code = place[row, sample]
    where = torch.zeros((k, g), dtype=torch.float64, device=numbers.device)
    where.index_put_((code, row), torch.ones_like(code, dtype=torch.float64), accumulate=True)
    beside = torch.zeros((k, len(outlines)), dtype=torch.float64, device=numbers.device)
    return where, beside.index_add_(0, code, outlines.T[sample]), n


def best_match(theirs: tuple[Tensor, Tensor, int], ours: tuple[Tensor, Tensor, int]) -> Tensor:
    """Return the own block of each released one, int64 (k,), -1 for none: the one-to-one match of greatest likelihood.

    Occurrences at a position are Poisson, with the rates of the own images; neighbours in the outline are Bernoulli. A
    block that more likely is absent from the own images stays unmatched.
    """
    (where, beside, n), (own_where, own_beside, m) = theirs, ours
    match = torch.full((len(where),), -1, device=where.device)
    if not len(where) or not len(own_where):
        return match
    rate = (torch.cat([own_where, torch.zeros_like(own_where[:1])]) + HALF) / (m + 1)  # the last one: never seen
    total = torch.cat([own_where, own_where.sum(dim=0, keepdim=True)]).sum(dim=1, keepdim=True)
    share = (torch.cat([own_beside, own_beside.sum(dim=0, keepdim=True)]) + HALF) / (total + 1)
    likelihood = where @ rate.log().T - n * rate.sum(dim=1)
    likelihood += beside @ share.log().T + (where.sum(dim=1, keepdim=True) - beside) @ (1 - share).log().T
    gain = (likelihood[:, :-1] - likelihood[:, -1:]).clamp_min(0)
    row, column = (torch.as_tensor(part, device=where.device) for part in linear_sum_assignment(gain.cpu(), True))
    matched = gain[row, column] > 0
    match[row[matched]] = column[matched]
    return match
