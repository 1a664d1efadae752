"""Corrupted images: rotated and noisy (harmful), or slightly darker (benign)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.parameters import Fraction, NonNegative
from benchmark.seeds import normal_like
from benchmark.settings.deployment.games.batches import BatchSurface, ShiftedInputs, ShiftThreat
from benchmark.settings.threat import Floor

VERSION = 2


def rotated(x: Float[Tensor, "n c h w"], degrees: float) -> Float[Tensor, "n c h w"]:
    """Return images rotated counter-clockwise about their centre, bilinearly, black outside."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    return rotate(x, degrees, interpolation=InterpolationMode.BILINEAR)


class RotationNoise(ShiftThreat):
    """Images rotated by ``degrees``, then Gaussian noise of deviation ``noise`` (in [0, 1] units), clipped.

    Args:
        share: of a batch that is shifted; the rest are usual inputs.
    """

    needs = {"dataset.kind": "image"}
    floor = Floor("accuracy_drop", 0.05)

    def __init__(self, *, share: Fraction = 1.0, degrees: float = 25.0, noise: NonNegative = 0.2) -> None:
        super().__init__(share=share)
        self.degrees, self.noise = degrees, noise

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        x = rotated(surface.x, self.degrees)
        x = (x + self.noise * normal_like(x, rng)).clamp(0, 1)
        return ShiftedInputs(x, torch.arange(len(x), device=x.device))


class Darker(ShiftThreat):
    """Negative control: inputs times ``factor``, which harms no classifier; any alarm is a false one."""

    control = "negative"

    def __init__(self, *, share: Fraction = 1.0, factor: NonNegative = 0.9) -> None:
        super().__init__(share=share)
        self.factor = factor

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        return ShiftedInputs(surface.x * self.factor, torch.arange(len(surface.x), device=surface.x.device))
