"""Harmful shift whose inputs are optimised until the classifier's outputs look usual."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.parameters import Count, Fraction, NonNegative, Positive
from benchmark.settings.deployment.games.batches import BatchSurface, ShiftedInputs
from benchmark.threats.shift.corruption import RotationNoise

VERSION = 2


class Evasive(RotationNoise):
    """Adaptive attack by rotated and noisy images that stay harmful but have the logits of usual inputs.

    Each shifted input is matched with a usual one of the same (often wrong) predicted class, and changed by projected
    gradient steps until its logits equal those of the match. A detector that only uses the distribution of outputs
    cannot see the result.

    Args:
        share, degrees, noise: as for the shift that is disguised.
        radius: largest change of a pixel.
        steps: of the descent, each of ``2.5 * radius / steps``.
    """

    needs = {"dataset.kind": "image", "model.gradients": "yes"}
    knowledge = frozenset({"model"})

    def __init__(
        self,
        *,
        share: Fraction = 1.0,
        degrees: float = 25.0,
        noise: NonNegative = 0.2,
        radius: Positive = 0.2,
        steps: Count = 40,
    ) -> None:
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


def matches(
    usual: Float[Tensor, "m classes"], found: Float[Tensor, "n classes"], rng: torch.Generator
) -> Float[Tensor, "n classes"]:
    """Return for each row of ``found`` a random row of ``usual`` with its largest logit."""
    order = torch.randperm(len(usual), generator=rng).to(usual.device)
    usual = usual[order]
    same = usual.argmax(dim=1).unsqueeze(0) == found.argmax(dim=1).unsqueeze(1)  # (n, m)
    draws = torch.rand(same.shape, generator=rng).to(usual.device)
    return usual[(draws * same).argmax(dim=1)]
