"""Norm leak: an orthogonal disguise keeps the length of every row, and lengths draw an outline.

A ciphertext-only attack (level 1) on RMT: ``||E r|| = ||X r||`` for each row of a block, up to noise.
The adversary computes row norms of its own samples too, puts the released blocks in the order in which their norms'
statistics match (the adaptive form; a jigsaw without any pair), and reads the classes by a classifier of norms.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from benchmark.data.blocks import from_blocks, to_blocks
from benchmark.errors import positive
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 1


class NormLeak(ReleaseThreat):
    """Guesses class and outline of released images from row norms.

    Args:
        block: edge of a block that the adversary assumes; the adaptive form takes what the mechanism publishes.
        hidden: width of the classifier of norms. epochs: of its training on the adversary's own samples.
        adaptive: solves the permutation.
    """

    family = "reconstruction"
    headline = "label_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("label_accuracy", 0.5)
    knowledge = frozenset({"attacker_data"})

    def __init__(self, *, block: int, hidden: int, epochs: int, adaptive: bool) -> None:
        super().__init__(adaptive=adaptive)
        positive("threat.block", block)
        positive("threat.epochs", epochs)
        self.block, self.hidden, self.epochs = block, hidden, epochs

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        facts = surface.published if self.adaptive else {}
        block, offset = facts.get("block", self.block), facts.get("noise_mean", 0.0)
        whole = facts.get("form", "matrix") == "vec"
        own = norms(surface.attacker.x + offset, block, whole)
        everything, targets = (norms(x, block, whole) for x in (surface.x, surface.targets))
        if everything.shape[2] == own.shape[2] and self.adaptive:
            source = jigsaw(everything, own)
            ordered = torch.empty_like(targets)
            ordered[:, :, source] = targets
            targets = ordered
        if targets.shape[1:] != own.shape[1:]:  # encodings of another size: their norms belong to no block of ours
            targets = own.mean(dim=0).expand(len(targets), *own.shape[1:])
        labels = self._classes(own, surface, targets, rng)
        outline = targets.unsqueeze(-1).expand(*targets.shape, block) / block**0.5
        size = tuple(-(-side // block) * block for side in surface.shape[-2:])
        rows = outline if not whole else outline.expand(*outline.shape[:3], block, block) / block**0.5
        x = from_blocks(rows, (size[0], size[1]))[..., : surface.shape[-2], : surface.shape[-1]]
        return Reconstruction((x - offset).clamp(0, 1).unsqueeze(1), labels.unsqueeze(1))

    def _classes(self, own: Tensor, surface: ReleaseSurface, targets: Tensor, rng: torch.Generator) -> Tensor:
        features = own.flatten(1)
        model = nn.Sequential(
            nn.Linear(features.shape[1], self.hidden), nn.ReLU(), nn.Linear(self.hidden, surface.num_classes)
        ).to(own.device)
        train(model, features, surface.attacker.y, epochs=self.epochs, rng=rng)
        return predict(model, targets.flatten(1)).argmax(dim=1)


def norms(x: Tensor, block: int, whole: bool) -> Tensor:
    """Row norms of every block, (n, channels, positions, b); of the ``whole`` block, (n, channels, positions, 1)."""
    blocks = to_blocks(x, block)
    return blocks.flatten(-2).norm(dim=-1, keepdim=True) if whole else blocks.norm(dim=-1)


def jigsaw(released: Tensor, own: Tensor) -> Tensor:
    """The private position, int64 (positions,), of each released one, by the quantiles of its norms over the samples.

    Args:
        released, own: (n, channels, positions, rows) and (m, channels, positions, rows).
    """
    levels = torch.linspace(0.05, 0.95, 10, device=own.device)
    theirs, ours = (torch.quantile(part, levels, dim=0).movedim(2, 0).flatten(1).double() for part in (released, own))
    _, source = linear_sum_assignment(torch.cdist(theirs, ours).cpu().numpy())
    return torch.as_tensor(source, device=own.device)
