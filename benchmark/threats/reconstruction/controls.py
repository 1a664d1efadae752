"""Rows that bound every reconstruction from a release: knowing the average, knowing everything."""

from __future__ import annotations

import torch

from benchmark.settings.release import ReleaseSurface, ReleaseThreat
from benchmark.threats.base import Reconstruction

VERSION = 1


class MeanImage(ReleaseThreat):
    """Negative control: the mean of the public samples for every target."""

    family = "reconstruction"
    headline = "examiner_accuracy"
    control = "negative"
    knowledge = frozenset({"public"})

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        return Reconstruction(surface.public.x.mean(dim=0).expand(len(surface.targets), 1, *surface.shape))


class Copy(ReleaseThreat):
    """Positive control: the private samples themselves, which no release mechanism can change."""

    family = "reconstruction"
    headline = "examiner_accuracy"
    control = "positive"
    knowledge = frozenset({"truth"})

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        return Reconstruction(surface.truth.unsqueeze(1))
