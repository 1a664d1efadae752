"""DP-GAN and DP-CGAN: GANs whose discriminator learns by DP-SGD and whose generator learns from it alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.models.generators import Generator
from benchmark.parameters import Count, NonNegative, Positive, Rate
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.discriminators import Critic, labelled, labelled_private
from benchmark.training.functional import Net
from benchmark.training.per_sample import clipped_sum
from benchmark.training.sanitise import poisson_epsilon

VERSION = 1
MECHANISMS = {"wasserstein": "dp_gan", "cross_entropy": "dp_cgan"}  # by objective


class DPGAN(GeneratorDefense):
    """GAN with DP-SGD on the discriminator; every step of the generator is post-processing.

    ``wasserstein`` is DP-GAN (Xie, Lin, Wang, Wang, Zhou, 2018): the gradient of a pair (private, generated) is clipped
    as one, and the critic's weights are kept within ``weight_bound``. ``cross_entropy`` is DP-CGAN (Torkzadehmahani,
    Kairouz, Paten, 2019): gradients of private and of generated samples are clipped separately.

    Deviations: both are implemented from memory; both condition on labels, because a release needs them; private
    batches are Poisson-sampled, and divided by their expected size; dense networks; Adam.

    Args:
        objective: one of the keys of :data:`MECHANISMS`.
        noise_multiplier: standard deviation of the noise on the sum of clipped gradients, over ``clip``; 0: clipped
            without noise.
        clip: bound of a gradient's norm.
        batch_size: expected private batch, and number of generated samples.
        steps: of the discriminator.
        judge_steps: of the discriminator before each step of the generator.
        weight_bound: largest absolute weight of the critic; of ``wasserstein`` only.
        hidden: widths of the discriminator's layers.
        target_epsilon, delta, lr, latent, rows: as for :class:`GeneratorDefense`.
    """

    def __init__(
        self,
        *,
        objective: Literal["wasserstein", "cross_entropy"] = "wasserstein",
        noise_multiplier: NonNegative = 1.1,
        clip: Positive = 1.0,
        batch_size: Count = 64,
        steps: Count = 100000,
        judge_steps: Count = 3,
        target_epsilon: Positive | None = 10.0,
        delta: Rate = 1e-5,
        weight_bound: Positive = 0.1,
        lr: Positive = 2e-4,
        hidden: Sequence[Count] = (512, 512),
        latent: Count = 16,
        rows: Count | None = None,
    ) -> None:
        self.mechanism = MECHANISMS[objective]
        super().__init__(
            batch_size=batch_size,
            steps=steps,
            target_epsilon=target_epsilon,
            delta=delta,
            lr=lr,
            hidden=hidden,
            latent=latent,
            rows=rows,
        )
        self.objective, self.noise_multiplier, self.clip = objective, noise_multiplier, clip
        self.judge_steps, self.weight_bound = judge_steps, weight_bound

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known, rate = labelled_private(private, generator.num_classes), min(1.0, self.batch_size / len(private))
        critic = Critic(known.shape[1], self.hidden).to(known.device)
        discriminator, steps = Net(critic), self.affordable_steps(partial(self.spent, rate))
        optimizers = [torch.optim.Adam(module.parameters(), lr=self.lr) for module in (critic, generator)]
        for step in range(steps):
            rows = (torch.rand(len(private), generator=rng) < rate).to(known.device)
            gradient = self.discriminator_gradient(discriminator, generator, known[rows], private.y[rows], rng)
            for parameter, part in zip(critic.parameters(), discriminator.layout.split(gradient).values(), strict=True):
                parameter.grad = part
            optimizers[0].step()
            if self.objective == "wasserstein":
                for parameter in critic.parameters():
                    parameter.data.clamp_(-self.weight_bound, self.weight_bound)
            if step % self.judge_steps == self.judge_steps - 1:
                y = generator.labels(self.batch_size, rng)
                score = critic(self._fake(generator, y, rng))
                loss = -score if self.objective == "wasserstein" else F.softplus(-score)
                optimizers[1].zero_grad(set_to_none=True)
                loss.mean().backward()
                optimizers[1].step()
        return self.sampled(generator, private, rng, self.spent(rate, steps))

    def discriminator_gradient(
        self, discriminator: Net, generator: Generator, real: Tensor, y: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Return the discriminator's sanitised gradient (d,) for a Poisson batch (n, d + classes) of labels (n,)."""
        params, clip = discriminator.initial(), self.clip
        total = torch.zeros_like(params)
        with torch.no_grad():
            paired = self.objective == "wasserstein"
            y = y if paired else generator.labels(self.batch_size, rng)
            fake = self._fake(generator, y, rng) if len(y) else real
        if len(real) and paired:
            both = torch.stack([real, fake], dim=1)
            total = clipped_sum(
                discriminator, params, both, y, clip, lambda scores, _: (scores[:, 1] - scores[:, 0]).sum()
            )
        elif not paired:
            total = clipped_sum(discriminator, params, fake, y, clip, lambda scores, _: F.softplus(scores).sum())
            if len(real):
                total = total + clipped_sum(
                    discriminator, params, real, y, clip, lambda scores, _: F.softplus(-scores).sum()
                )
        return (total + clip * self.noise_multiplier * normal_like(total, rng)) / self.batch_size

    def _fake(self, generator: Generator, y: Tensor, rng: torch.Generator) -> Tensor:
        return labelled(generator(generator.noise(len(y), rng), y), y, generator.num_classes)

    def spent(self, rate: float, steps: int) -> float | None:
        """Return the epsilon of the run, by the accountant, for adding or removing a record."""
        if self.noise_multiplier == 0:
            return None
        return poisson_epsilon(noise_multiplier=self.noise_multiplier, rate=rate, steps=steps, delta=self.delta)
