"""Rows that bound every insider: a generator that learned nothing, and real images of the class."""

from __future__ import annotations

import torch

from benchmark.settings.collaboration.games.global_models import GlobalModelSurface, InsiderMove, InsiderThreat
from benchmark.threats.gan_inference.networks import dense

VERSION = 1


class UntrainedGenerator(InsiderThreat):
    """Negative control: images of a generator with random weights.

    Args:
        latent, hidden: of the generator; samples: how many.
    """

    control = "negative"
    floor = None

    def __init__(self, *, target: int, latent: int, hidden: int, samples: int) -> None:
        super().__init__(target=target)
        self.latent, self.hidden, self.samples = latent, hidden, samples

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> InsiderMove:
        device = surface.params.device
        generator = dense(shape=surface.shape, latent=self.latent, hidden=self.hidden).to(device)
        return InsiderMove(generator.draw(self.samples, rng, device) if surface.last else None)


class HeldOutCopy(InsiderThreat):
    """Positive control: real images of the class that nobody trained on, as good as a perfect generator's."""

    control = "positive"
    floor = None
    knowledge = frozenset({"truth"})

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> InsiderMove:
        return InsiderMove(surface.truth)
