"""DP-MERF: a generator trained on one noisy release of random-feature mean embeddings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.errors import positive
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import gaussian_epsilon

VERSION = 1


class DPMERF(GeneratorDefense):
    """DP-MERF: Differentially Private Mean Embeddings with Random Features (Harder, Adamczewski, Park, AISTATS 2021).

    The class-wise mean embedding ``mu = (1/N) sum phi(x) onehot(y)^T`` with random Fourier features of norm 1 is
    released once with Gaussian noise; the generator then matches it, at no further privacy cost.

    Args:
        noise_multiplier: noise over the L2 sensitivity of mu, which is 2/N (replacing one record); 0: not private.
        delta: of the guarantee.
        features: random Fourier features (an even number). width: variance scale of the Gaussian kernel.
        steps, batch_size, lr: of training the generator with Adam.
        latent: dimensions of the noise.
        rows: released samples; None: as many as there are private ones.
    """

    def __init__(
        self,
        *,
        noise_multiplier: float,
        delta: float,
        features: int,
        width: float,
        steps: int,
        batch_size: int,
        lr: float,
        latent: int,
        rows: int | None,
    ) -> None:
        for name, value in (("features", features), ("width", width), ("batch_size", batch_size), ("lr", lr)):
            positive(f"dp_merf.{name}", value)
        self.noise_multiplier, self.delta, self.features, self.width = noise_multiplier, delta, features, width
        self.steps, self.batch_size, self.lr, self.latent, self.rows = steps, batch_size, lr, latent, rows

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "dp_merf", "synthetic": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        num_classes, device = generator.num_classes, private.x.device
        frequencies = torch.randn((private.x[0].numel(), self.features // 2), generator=rng).to(device)
        frequencies = frequencies / math.sqrt(self.width)
        target = embedding(fourier(2 * private.x - 1, frequencies), private.y, num_classes) / len(private)
        target = target + 2 / len(private) * self.noise_multiplier * normal_like(target, rng)
        optimizer = torch.optim.Adam(generator.parameters(), lr=self.lr)
        for _ in range(self.steps):
            y = torch.randint(num_classes, (self.batch_size,), generator=rng).to(device)
            found = embedding(fourier(generator(generator.noise(len(y), rng), y), frequencies), y, num_classes)
            optimizer.zero_grad(set_to_none=True)
            (found / len(y) - target).square().sum().backward()
            optimizer.step()
        rows = len(private) if self.rows is None else self.rows
        y = torch.randint(num_classes, (rows,), generator=rng).to(device)
        private_run = self.noise_multiplier > 0
        epsilon = gaussian_epsilon(noise_multiplier=self.noise_multiplier, steps=1, delta=self.delta)
        return Release(
            generator.sample(y, rng),
            y,
            epsilon=epsilon if private_run else None,
            delta=self.delta if private_run else None,
        )


def fourier(x: Tensor, frequencies: Tensor) -> Tensor:
    """Random Fourier features (n, features) of norm 1 of samples (n, ...)."""
    angles = x.flatten(1) @ frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(frequencies.shape[1])


def embedding(features: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """``sum phi(x) onehot(y)^T``, (features, classes)."""
    return features.T @ torch.nn.functional.one_hot(y, num_classes).to(features.dtype)
