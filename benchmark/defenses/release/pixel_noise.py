"""Gaussian noise on released inputs: the baseline of every disguise."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.data.base import Split
from benchmark.parameters import Positive
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1


class PixelNoise(ReleaseMechanism):
    """Mechanism that releases x plus normal noise; test inputs are used as they are.

    Args:
        std: standard deviation of the noise, for inputs in [0, 1].
        clip: clip the result to [0, 1], as an image file requires.
    """

    def __init__(self, *, std: Positive = 0.5, clip: bool = False) -> None:
        self.std, self.clip = std, clip

    def facts(self) -> dict[str, Any]:
        return {"noise_std": self.std}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        noisy = private.x + self.std * normal_like(private.x, rng)
        return Release(noisy.clamp(0, 1) if self.clip else noisy, private.y, torch.arange(len(private)))
