"""Norm leak: an orthogonal disguise preserves the norm of every row, and norms give an outline.

A ciphertext-only attack (level 1) on RMT (Sharma, Gu, Chen, 2022 (arXiv 2301.00252)): ``||E r|| = ||X r||`` for each
row of a block, up to noise. The adversary computes row norms of its own samples too, orders the released blocks so that
their norms' statistics match (the adaptive form, which needs no pair), and predicts the classes by a classifier of
norms.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from benchmark.data.blocks import to_blocks
from benchmark.parameters import Count
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.threats.reconstruction.block_images import image_of_blocks
from benchmark.training.loop import predict, train

VERSION = 1


class NormLeak(ReleaseThreat):
    """Attack that predicts class and outline of released images from row norms.

    Args:
        block: edge of a block that the adversary assumes; the adaptive form takes the published one.
        hidden: width of the classifier of norms.
        epochs: of its training on the adversary's own samples.
        adaptive: the adversary solves for the permutation.
    """

    family = "reconstruction"
    headline = "label_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("label_accuracy", 0.5)
    knowledge = frozenset({"attacker_data"})

    def __init__(self, *, block: Count = 4, hidden: Count = 128, epochs: Count = 30, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.block, self.hidden, self.epochs = block, hidden, epochs

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        facts = surface.published if self.adaptive else {}
        block, offset = facts.get("block", self.block), facts.get("noise_mean", 0.0)
        whole = facts.get("form", "matrix") == "vec"
        own = norms(surface.attacker.x + offset, block, whole)
        everything, targets = (norms(x, block, whole) for x in (surface.x, surface.targets))
        if everything.shape[2] == own.shape[2] and self.adaptive:
            source = positions_by_norms(everything, own)
            ordered = torch.empty_like(targets)
            ordered[:, :, source] = targets
            targets = ordered
        if targets.shape[1:] != own.shape[1:]:  # encodings of another size: their norms match no block
            targets = own.mean(dim=0).expand(len(targets), *own.shape[1:])
        labels = self._classes(own, surface, targets, rng)
        outline = targets.unsqueeze(-1).expand(*targets.shape, block) / block**0.5
        rows = outline if not whole else outline.expand(*outline.shape[:3], block, block) / block**0.5
        x = (image_of_blocks(rows, surface.shape) - offset).clamp(0, 1)
        return Reconstruction(x.unsqueeze(1), labels.unsqueeze(1))

    def _classes(self, own: Tensor, surface: ReleaseSurface, targets: Tensor, rng: torch.Generator) -> Tensor:
        features = own.flatten(1)
        model = nn.Sequential(
            nn.Linear(features.shape[1], self.hidden), nn.ReLU(), nn.Linear(self.hidden, surface.num_classes)
        ).to(own.device)
        train(model, features, surface.attacker.y, epochs=self.epochs, rng=rng)
        return predict(model, targets.flatten(1)).argmax(dim=1)


def norms(
    x: Float[Tensor, "n channels height width"], block: int, whole: bool
) -> Float[Tensor, "n channels positions rows"]:
    """Return row norms of every block, (n, channels, positions, b), or (n, channels, positions, 1) for ``whole``
    blocks."""
    blocks = to_blocks(x, block)
    return blocks.flatten(-2).norm(dim=-1, keepdim=True) if whole else blocks.norm(dim=-1)


def positions_by_norms(
    released: Float[Tensor, "n channels positions rows"], own: Float[Tensor, "m channels positions rows"]
) -> Int[Tensor, " positions"]:
    """Return the private position of each released one, by the quantiles of its norms.

    Args:
        released: norms over the released samples.
        own: norms over the adversary's samples.
    """
    levels = torch.linspace(0.05, 0.95, 10, device=own.device)
    theirs, ours = (torch.quantile(part, levels, dim=0).movedim(2, 0).flatten(1).double() for part in (released, own))
    _, source = linear_sum_assignment(torch.cdist(theirs, ours).cpu().numpy())
    return torch.as_tensor(source, device=own.device)
