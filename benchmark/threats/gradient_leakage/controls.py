"""Controls of attacks on uploads: no knowledge, knowledge of averages, and full knowledge."""

from __future__ import annotations

import torch

from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.threats.class_means import class_means
from benchmark.threats.gradient_leakage.labels import restore_labels

VERSION = 1


class UniformNoise(UploadThreat):
    """Negative control: pixels from U(0, 1) and random labels."""

    family = "gradient_leakage"
    headline = "ssim"
    control = "negative"

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        victims = surface.uploads.shape[1]
        x = torch.rand((victims, surface.batch_size, *surface.shape), generator=rng)
        labels = torch.randint(surface.num_classes, (victims, surface.batch_size), generator=rng)
        return Reconstruction(x.to(surface.params.device), labels.to(surface.params.device))


class MeanImage(UploadThreat):
    """Negative control: the mean of the public samples for every victim."""

    family = "gradient_leakage"
    headline = "ssim"
    control = "negative"
    knowledge = frozenset({"public"})

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        victims = surface.uploads.shape[1]
        mean = surface.public.x.mean(dim=0)
        return Reconstruction(mean.expand(victims, surface.batch_size, *surface.shape))


class ClassMean(UploadThreat):
    """Negative control: the mean public image of every label that the gradient reveals.

    An attack that scores no higher reveals no more than the label.
    """

    family = "gradient_leakage"
    headline = "ssim"
    control = "negative"
    knowledge = frozenset({"public"})

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        public, victims = surface.public, surface.uploads.shape[1]
        gradients = (surface.uploads[0] / surface.local_steps).to(surface.params)
        labels = restore_labels(gradients, surface.net.layout, surface.batch_size)
        means = class_means(public, surface.num_classes)
        return Reconstruction(means[labels].view(victims, surface.batch_size, *surface.shape), labels)


class Copy(UploadThreat):
    """Positive control: the private samples themselves, which no defense on uploads can change."""

    family = "gradient_leakage"
    headline = "ssim"
    control = "positive"
    knowledge = frozenset({"truth", "labels"})

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        return Reconstruction(surface.truth, surface.labels)
