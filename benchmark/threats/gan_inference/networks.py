"""Generators of insiders."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError

SEED_SIZE = 4  # side of the first map of a convolutional generator


class Generator(nn.Module):
    """Generator from noise (m, latent) to images (m, *shape) in [0, 1].

    Args:
        shape: of one image.
        latent: size of the noise.
        layers: (m, latent) -> (m, pixels) before the tanh.
    """

    def __init__(self, *, shape: tuple[int, ...], latent: int, layers: nn.Module) -> None:
        super().__init__()
        self.shape, self.latent, self.layers = shape, latent, layers

    def forward(self, z: Tensor) -> Tensor:
        return ((self.layers(z).tanh() + 1) / 2).view(len(z), *self.shape)

    @torch.no_grad()
    def draw(self, count: int, rng: torch.Generator, device: torch.device) -> Tensor:
        """Return ``count`` images from standard normal noise of ``rng``."""
        return self(torch.randn((count, self.latent), generator=rng).to(device, non_blocking=True))


def dense(*, shape: tuple[int, ...], latent: int, hidden: int) -> Generator:
    """Return a fully connected generator with two hidden layers of ``hidden`` units, enough for 8x8 pixels."""
    layers = nn.Sequential(
        nn.Linear(latent, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, math.prod(shape)),
    )
    return Generator(shape=shape, latent=latent, layers=layers)


def sides(size: int) -> list[int]:
    """Return the sides of a convolutional generator's maps, from 4 or less up to ``size``; each is half of the next.

    >>> sides(28), sides(64)
    ([4, 7, 14, 28], [4, 8, 16, 32, 64])
    """
    found = [size]
    while found[0] > SEED_SIZE:
        found.insert(0, -(-found[0] // 2))
    return found


def dcgan(*, shape: tuple[int, ...], latent: int, hidden: int) -> Generator:
    """Return a generator of transposed convolutions from ``hidden`` channels, halved as the side doubles.

    Radford, Metz, Chintala, *Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks*, ICLR 2016. Batch normalisation always uses the batch's own statistics, so that only weights have to be
    averaged.

    Raises:
        ConfigError: the samples are not square images.
    """
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ConfigError(f"threat.generator=dcgan needs square images, got samples of shape {shape}; use dense.")
    ladder = sides(shape[1])
    layers: list[nn.Module] = [nn.Unflatten(1, (latent, 1, 1))]
    inputs, outputs = latent, hidden if len(ladder) > 1 else shape[0]
    layers.append(nn.ConvTranspose2d(inputs, outputs, ladder[0], bias=False))
    for number, (small, large) in enumerate(pairwise(ladder)):
        last = number == len(ladder) - 2
        inputs, outputs = outputs, shape[0] if last else max(8, outputs // 2)
        layers += [nn.BatchNorm2d(inputs, track_running_stats=False), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(inputs, outputs, 4 - (2 * small - large), stride=2, padding=1, bias=False))
    layers.append(nn.Flatten())
    return Generator(shape=shape, latent=latent, layers=nn.Sequential(*layers))


GENERATORS = {"dense": dense, "dcgan": dcgan}
