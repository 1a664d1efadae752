"""Images that a camera or a scanner spoils: turned and noisy (harmful), or a little darker (benign)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.seeds import normal_like
from benchmark.settings.deployment.games.batches import BatchSurface, ShiftedInputs, ShiftThreat
from benchmark.settings.threat import Floor

VERSION = 1


def turned(x: Tensor, degrees: float) -> Tensor:
    """Images (n, c, h, w) turned counter-clockwise about their middle, bilinearly, black where nothing was."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    return rotate(x, degrees, interpolation=InterpolationMode.BILINEAR)


class RotationNoise(ShiftThreat):
    """Images turned by ``degrees``, then Gaussian noise of deviation ``noise`` (in [0, 1] units), clipped.

    Args:
        share: of a batch; the rest are usual inputs.
    """

    needs = {"dataset.kind": "image"}
    floor = Floor("accuracy_drop", 0.05)

    def __init__(self, *, share: float, degrees: float, noise: float) -> None:
        super().__init__(share=share)
        self.degrees, self.noise = degrees, noise

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        x = turned(surface.x, self.degrees)
        x = (x + self.noise * normal_like(x, rng)).clamp(0, 1)
        return ShiftedInputs(x, torch.arange(len(x), device=x.device))


class Darker(ShiftThreat):
    """Negative control: inputs times ``factor``, which harms no classifier; alarms here are false ones."""

    control = "negative"

    def __init__(self, *, share: float, factor: float) -> None:
        super().__init__(share=share)
        self.factor = factor

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        return ShiftedInputs(surface.x * self.factor, torch.arange(len(surface.x), device=surface.x.device))
