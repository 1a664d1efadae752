"""Controls of reconstructions from a release: knowledge of averages and full knowledge."""

from __future__ import annotations

import torch

from benchmark.metrics.distances import nearest
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface

VERSION = 1


class MeanImage(ReleaseThreat):
    """Negative control: the mean of the public samples for every target."""

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no"}
    control = "negative"
    knowledge = frozenset({"public"})

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        return Reconstruction(surface.public.x.mean(dim=0).expand(len(surface.targets), 1, *surface.shape))


class Copy(ReleaseThreat):
    """Positive control: the private samples themselves, which no release mechanism can change."""

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no"}
    control = "positive"
    knowledge = frozenset({"truth"})

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        return Reconstruction(surface.truth.unsqueeze(1))


class NearestReference(ReleaseThreat):
    """Negative control: for every target the adversary's own sample that is nearest to the private one.

    It knows the truth but returns only samples that the adversary already had: a reconstruction that is no better leaks
    nothing.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no"}
    control = "negative"
    knowledge = frozenset({"truth", "attacker_data"})

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        own = surface.attacker.x
        return Reconstruction(own[nearest(surface.truth, own)[1]].unsqueeze(1))
