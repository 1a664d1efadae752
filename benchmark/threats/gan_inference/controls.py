"""Controls of insiders: an untrained generator, and real images of the class."""

from __future__ import annotations

import torch

from benchmark.parameters import Count, Index
from benchmark.settings.collaboration.games.global_models import GlobalModelSurface, InsiderMove, InsiderThreat
from benchmark.threats.gan_inference.networks import dense

VERSION = 1


class UntrainedGenerator(InsiderThreat):
    """Negative control: images of a generator with random weights.

    Args:
        target: the victim's class.
        latent, hidden: of the generator.
        samples: number of images.
    """

    control = "negative"
    floor = None

    def __init__(self, *, target: Index = 3, latent: Count = 32, hidden: Count = 128, samples: Count = 1000) -> None:
        super().__init__(target=target)
        self.latent, self.hidden, self.samples = latent, hidden, samples

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> InsiderMove:
        device = surface.params.device
        generator = dense(shape=surface.shape, latent=self.latent, hidden=self.hidden).to(device)
        return InsiderMove(generator.draw(self.samples, rng, device) if surface.last else None)


class HeldOutCopy(InsiderThreat):
    """Positive control: real images of the class that nobody trained on, equal to those of a perfect generator."""

    control = "positive"
    floor = None
    knowledge = frozenset({"truth"})

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> InsiderMove:
        return InsiderMove(surface.truth)
