"""DP-MERF: a generator trained on one noisy release of random-feature mean embeddings."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.parameters import Count, NonNegative, Positive, Rate
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import gaussian_epsilon, gaussian_noise

VERSION = 2


class DPMERF(GeneratorDefense):
    """Generator that matches one noisy release of class-wise mean embeddings.

    Harder, Adamczewski, Park, *DP-MERF: Differentially Private Mean Embeddings with Random Features*, AISTATS 2021. The
    embedding ``mu = (1/N) sum phi(x) onehot(y)^T`` with random Fourier features of norm 1 is released once with
    Gaussian noise; the generator then matches it, at no further privacy cost.

    Args:
        noise_multiplier: noise over the L2 sensitivity of mu, which is 2/N (replacing one record); 0: not private;
            None: as little as ``target_epsilon`` allows.
        target_epsilon: what the release may spend where ``noise_multiplier`` is None.
        features: random Fourier features (an even number).
        width: variance scale of the Gaussian kernel.
        delta, steps, batch_size, lr, latent, rows: as for :class:`GeneratorDefense`.
    """

    mechanism = "dp_merf"

    def __init__(
        self,
        *,
        noise_multiplier: NonNegative | None = None,
        target_epsilon: Positive = 10.0,
        delta: Rate = 1e-5,
        features: Count = 10000,
        width: Positive = 105.0,
        steps: Count = 6000,
        batch_size: Count = 500,
        lr: Positive = 0.01,
        latent: Count = 16,
        rows: Count | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            steps=steps,
            target_epsilon=target_epsilon,
            delta=delta,
            lr=lr,
            hidden=(),
            latent=latent,
            rows=rows,
        )
        if noise_multiplier is None:
            noise_multiplier = gaussian_noise(epsilon=target_epsilon, steps=1, delta=delta)
        self.noise_multiplier, self.features, self.width = noise_multiplier, features, width

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
            generated = embedding(fourier(generator(generator.noise(len(y), rng), y), frequencies), y, num_classes)
            optimizer.zero_grad(set_to_none=True)
            (generated / len(y) - target).square().sum().backward()
            optimizer.step()
        return self.sampled(generator, private, rng, self.spent())

    def spent(self) -> float | None:
        """Return the epsilon of the one noisy embedding, by the accountant."""
        if self.noise_multiplier == 0:
            return None
        return gaussian_epsilon(noise_multiplier=self.noise_multiplier, steps=1, delta=self.delta)


def fourier(x: Float[Tensor, "n ..."], frequencies: Float[Tensor, "d half"]) -> Float[Tensor, "n features"]:
    """Return random Fourier features (n, features) of norm 1 of samples (n, ...)."""
    angles = x.flatten(1) @ frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(frequencies.shape[1])


def embedding(
    features: Float[Tensor, "n features"], y: Int[Tensor, " n"], num_classes: int
) -> Float[Tensor, "features classes"]:
    """Return ``sum phi(x) onehot(y)^T``, (features, classes)."""
    return features.T @ torch.nn.functional.one_hot(y, num_classes).to(features.dtype)
