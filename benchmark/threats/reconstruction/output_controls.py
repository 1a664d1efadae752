"""Controls of reconstructions from outputs: knowledge of averages, of the label, and full knowledge."""

from __future__ import annotations

import torch

from benchmark.settings.guesses import Reconstruction
from benchmark.settings.service.games.outputs import OutputSurface, OutputThreat
from benchmark.threats.class_means import class_means

VERSION = 1


class MeanImage(OutputThreat):
    """Negative control: the mean of the public samples for every input."""

    family = "reconstruction"
    headline = "explained_variance"
    control = "negative"
    knowledge = frozenset({"public"})

    def attack(self, surface: OutputSurface, rng: torch.Generator) -> Reconstruction:
        return Reconstruction(surface.public.x.mean(dim=0).expand(len(surface.outputs), 1, *surface.shape))


class ClassMeanImage(OutputThreat):
    """Negative control: the provider's mean image of the predicted class, which any useful output reveals."""

    family = "reconstruction"
    headline = "explained_variance"
    control = "negative"
    knowledge = frozenset({"provider"})

    def attack(self, surface: OutputSurface, rng: torch.Generator) -> Reconstruction:
        means = class_means(surface.provider.data, surface.num_classes)
        return Reconstruction(means[surface.outputs.argmax(dim=1)].unsqueeze(1))


class Copy(OutputThreat):
    """Positive control: the private inputs themselves, which no treatment of outputs can change."""

    family = "reconstruction"
    headline = "explained_variance"
    control = "positive"
    knowledge = frozenset({"truth"})

    def attack(self, surface: OutputSurface, rng: torch.Generator) -> Reconstruction:
        return Reconstruction(surface.truth.unsqueeze(1), surface.labels.unsqueeze(1))
