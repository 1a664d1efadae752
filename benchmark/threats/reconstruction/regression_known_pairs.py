"""Regression from known pairs: each block's inverse map, learned from samples known in both forms.

The known-pairs attack on image disguising of Sharma, Gu, Chen, 2022 (arXiv 2301.00252), level 2. The plain form is that
of the public attack script: ridge regression at every block position, with the order of blocks as it is. The adaptive
form knows the mechanism: it fits every pair of a released and a private position, takes leave-one-out residuals as
costs, and solves for the secret permutation as an assignment. Both regress from released to private blocks directly, so
that noise needs no inverse.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmark.data.blocks import from_blocks, to_blocks
from benchmark.parameters import Count, Positive
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor

VERSION = 1


class RegressionKnownPairs(ReleaseThreat):
    """Ridge regression from released to private blocks.

    Args:
        pairs: q, number of known pairs.
        block: edge of a block that the adversary assumes; the adaptive form takes the published one.
        ridge: penalty, for pixels in [0, 1].
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    floor = Floor("examiner_accuracy", 0.7)
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    knowledge = frozenset({"known_pairs"})

    def __init__(self, *, pairs: Count = 10, block: Count = 4, ridge: Positive = 0.01, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.pairs, self.block, self.ridge = pairs, block, ridge

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        facts = surface.published if self.adaptive else {}
        block, offset = facts.get("block", self.block), facts.get("noise_mean", 0.0)
        whole = facts.get("form", "matrix") == "vec"
        plain = rows(to_blocks(surface.pairs.plain + offset, block), whole)
        encoded = rows(to_blocks(surface.pairs.encoded, block), whole)
        maps, costs = fit(encoded, plain, self.ridge)
        positions = torch.arange(len(costs), device=costs.device)
        source = assign(costs) if self.adaptive else positions
        targets = to_blocks(surface.targets, block)
        guessed = rows(targets, whole) @ maps[positions, source]
        recovered = torch.empty_like(guessed)
        recovered[source] = guessed
        blocks = recovered.unflatten(1, (len(targets), targets.shape[1], -1)).movedim(0, 2).reshape(targets.shape)
        height, width = surface.shape[-2:]
        x = from_blocks(blocks, (surface.targets.shape[-2], surface.targets.shape[-1]))[..., :height, :width]
        residual = costs[positions, source].mean().item()
        return Reconstruction((x - offset).clamp(0, 1).unsqueeze(1), diagnostics={"residual": residual})


def rows(blocks: Float[Tensor, "n channels positions b b"], whole: bool) -> Float[Tensor, "positions samples features"]:
    """Return blocks (n, channels, positions, b, b) as (positions, n * channels * b, b); whole ones as (..., n *
    channels, b * b)."""
    vectors = blocks.flatten(-2).unsqueeze(-2) if whole else blocks
    return vectors.movedim(2, 0).flatten(1, 3)


def fit(encoded: Tensor, plain: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return ridge maps from every released position to every private position, and the error of each.

    Args:
        encoded, plain: (positions, rows, features).

    Returns:
        maps (released, private, features, features); costs (released, private), the leave-one-out squared residual
            relative to the private block's energy. Plain residuals vanish for every pair when there are fewer rows than
            features.
    """
    encoded, plain = encoded.double(), plain.double()
    gram = encoded.transpose(1, 2) @ encoded
    gram.diagonal(dim1=1, dim2=2).add_(ridge)
    solver = torch.linalg.solve(gram, encoded.transpose(1, 2))
    maps = torch.einsum("dfr,srg->dsfg", solver, plain)
    left_out = 1 - (encoded * solver.transpose(1, 2)).sum(dim=2)
    residuals = plain.unsqueeze(0) - torch.einsum("drf,dsfg->dsrg", encoded, maps)
    residuals = residuals / left_out[:, None, :, None].clamp_min(1e-9)
    energy = plain.square().sum(dim=(1, 2)).clamp_min(ridge)
    return maps.float(), residuals.square().sum(dim=(2, 3)) / energy


def assign(costs: Float[Tensor, "positions positions"]) -> Int[Tensor, " positions"]:
    """Return the private position of each released one: the permutation of least total cost."""
    _, source = linear_sum_assignment(costs.cpu().numpy())
    return torch.as_tensor(source, device=costs.device)
