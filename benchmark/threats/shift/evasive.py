"""A harmful shift whose inputs are tuned until the classifier's outputs look as usual."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.settings.deployment.games.batches import BatchSurface, ShiftedInputs
from benchmark.threats.shift.corruption import RotationNoise

VERSION = 1


class Evasive(RotationNoise):
    """Turned and noisy images that keep their harm but give the logits of usual inputs (adaptive).

    Each shifted input is matched with a usual one that the classifier takes for the same (often wrong) class, and
    moved by projected gradient steps until its logits are those of the match. A detector that only looks at the
    distribution of outputs is blind to the result.

    Args:
        share, degrees, noise: as for the shift that is disguised.
        radius: largest change of a pixel; steps: of the descent, each of ``2.5 * radius / steps``.
    """

    needs = {"dataset.kind": "image", "model.gradients": "yes"}
    knowledge = frozenset({"model"})

    def __init__(self, *, share: float, degrees: float, noise: float, radius: float, steps: int) -> None:
        super().__init__(share=share, degrees=degrees, noise=noise)
        self.adaptive = True
        self.radius, self.steps = radius, steps
        self.knowledge = self.knowledge | {"mechanism"}

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        shifted = super().attack(surface, rng)
        with torch.no_grad():
            usual, found = surface.model(surface.usual), surface.model(shifted.x)
        target = matches(usual, found, rng)
        x, step = shifted.x.clone(), 2.5 * self.radius / self.steps
        for _ in range(self.steps):
            x.requires_grad_()
            gap = (surface.model(x) - target).square().sum()
            (slope,) = torch.autograd.grad(gap, x)
            near = (x.detach() - step * slope.sign()).clamp(shifted.x - self.radius, shifted.x + self.radius)
            x = near.clamp(0, 1)
        return ShiftedInputs(x.detach(), shifted.origin, diagnostics={"logit_gap": gap.item() / len(x)})


def matches(usual: Tensor, found: Tensor, rng: torch.Generator) -> Tensor:
    """For each row of ``found`` (n, classes) a random row of ``usual`` (m, classes) with the same largest logit."""
    order = torch.randperm(len(usual), generator=rng).to(usual.device)
    usual = usual[order]
    same = usual.argmax(dim=1).unsqueeze(0) == found.argmax(dim=1).unsqueeze(1)  # (n, m)
    draws = torch.rand(same.shape, generator=rng).to(usual.device)
    return usual[(draws * same).argmax(dim=1)]
