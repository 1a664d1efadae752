"""Generators of insiders."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """A fully connected generator, (m, latent) -> (m, *shape) in [0, 1].

    Deviation: the paper uses a transposed-convolutional DCGAN on images of 32 and 64 pixels; 8 pixels need none.

    Args:
        shape: of one image; latent: size of the noise; hidden: width of both hidden layers.
    """

    def __init__(self, *, shape: tuple[int, ...], latent: int, hidden: int) -> None:
        super().__init__()
        self.shape, self.latent = shape, latent
        self.layers = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, math.prod(shape)),
        )

    def forward(self, z: Tensor) -> Tensor:
        return ((self.layers(z).tanh() + 1) / 2).view(len(z), *self.shape)

    @torch.no_grad()
    def draw(self, count: int, rng: torch.Generator, device: torch.device) -> Tensor:
        """``count`` images from standard normal noise of ``rng``."""
        return self(torch.randn((count, self.latent), generator=rng).to(device))
