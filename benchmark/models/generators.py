"""Class-conditional generators of synthetic data: noise and a label in, a sample in [0, 1] out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

EMBEDDING = 8
SLOPE = 0.2


class Generator(nn.Module):
    """Base of generators of a sample from noise and a label.

    Batch statistics are used when sampling too, as in the published code (Cao et al., 2021): they are of generated data
    only.

    Args:
        shape: of one sample.
        num_classes: of the labels.
        latent: dimensions of the noise, uniform in [0, 1).
    """

    body: nn.Module

    def __init__(self, shape: tuple[int, ...], num_classes: int, latent: int) -> None:
        super().__init__()
        self.shape, self.num_classes, self.latent = shape, num_classes, latent
        self.embedding = nn.Embedding(num_classes, EMBEDDING)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return samples (n, *shape) in [-1, 1] of noise (n, latent) and labels int64 (n,)."""
        return self.body(torch.cat([z, self.embedding(y)], dim=1)).view(-1, *self.shape)

    def noise(self, count: int, rng: torch.Generator) -> Tensor:
        """Return uniform noise (count, latent)."""
        return torch.rand((count, self.latent), generator=rng).to(self.embedding.weight.device, non_blocking=True)

    def labels(self, count: int, rng: torch.Generator) -> Tensor:
        """Return uniform labels, int64 (count,), never from the private histogram."""
        drawn = torch.randint(self.num_classes, (count,), generator=rng)
        return drawn.to(self.embedding.weight.device, non_blocking=True)

    @torch.no_grad()
    def sample(self, y: Tensor, rng: torch.Generator, batch_size: int = 500) -> Tensor:
        """Return samples (n, *shape) in [0, 1] of the labels ``y``."""
        return torch.cat([(self(self.noise(len(part), rng), part) + 1) / 2 for part in y.split(batch_size)])


class DenseGenerator(Generator):
    """Generator with two hidden layers, for small images and tables."""

    def __init__(self, shape: tuple[int, ...], num_classes: int, latent: int, hidden: int = 128) -> None:
        super().__init__(shape, num_classes, latent)
        layers: list[nn.Module] = []
        for inputs in (latent + EMBEDDING, hidden):
            layers += [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers, nn.Linear(hidden, math.prod(shape)), nn.Tanh())


class ConvGenerator(Generator):
    """Generator of transposed convolutions from 7x7 (28x28 images) or 4x4 (32x32) up, as in Cao et al. 2021."""

    def __init__(self, shape: tuple[int, ...], num_classes: int, latent: int) -> None:
        super().__init__(shape, num_classes, latent)
        channels, side = shape[0], shape[1]
        first = 7 if side % 7 == 0 else 4
        widths = [256, 128, 64] if side // first == 4 else [256, 128, 64, 32]
        inputs = latent + EMBEDDING
        layers: list[nn.Module] = [
            nn.Unflatten(1, (inputs, 1, 1)),
            nn.ConvTranspose2d(inputs, widths[0], first, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.LeakyReLU(SLOPE),
        ]
        for narrow, wide in zip(widths[1:], widths[:-1], strict=True):
            layers += [
                nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(narrow),
                nn.LeakyReLU(SLOPE),
            ]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh())
