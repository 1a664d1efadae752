"""GS-WGAN: a generator that learns from noised image gradients of critics on disjoint shards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.models.generators import Generator
from benchmark.parameters import Count, CountOrZero, NonNegative, Positive, Rate
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import shard_epsilon
from benchmark.training.adversarial_groups import gradient_penalty
from benchmark.training.clipping import clip_rows
from benchmark.training.discriminators import Critic, labelled, labelled_private, shards_of

VERSION = 1
BETAS = (0.5, 0.9)


class GSWGAN(GeneratorDefense):
    """Generator trained on sanitised image gradients of critics.

    Chen et al., *GS-WGAN: A Gradient-Sanitized Approach for Learning Differentially Private Generators*, 2020. Each
    step asks one critic, drawn at random among those on disjoint shards, for the gradient at every generated image; it
    is clipped to ``clip`` and gets noise of standard deviation ``2 * clip * noise_multiplier``.

    Deviations: dense critics. The published accountant composes steps x images as if each image had drawn a shard of
    its own, but the images of a step share one; here a step is one Gaussian query of sensitivity ``2 * clip *
    sqrt(batch_size)``, so equal noise counts for far more epsilon. As published, a critic keeps its state from earlier
    steps, and the accountant leaves that secret history out.

    Args:
        shards: number of critics.
        warm_up: steps of each critic against the untrained generator, before all.
        noise_multiplier: of one image's gradient; 0: clipped without noise.
        clip: bound of one image's gradient.
        batch_size: generated images of a step, and private ones of a critic's step.
        steps: of the generator.
        critic_steps: of the chosen critic, before each of them.
        hidden: widths of a critic's layers.
        target_epsilon, delta, lr, latent, rows: as for :class:`GeneratorDefense`; ``lr`` of all networks.
    """

    mechanism = "gs_wgan"

    def __init__(
        self,
        *,
        shards: Count = 1000,
        warm_up: CountOrZero = 2000,
        noise_multiplier: NonNegative = 5.7,
        clip: Positive = 1.0,
        batch_size: Count = 32,
        steps: Count = 20000,
        critic_steps: Count = 5,
        target_epsilon: Positive | None = 10.0,
        delta: Rate = 1e-5,
        lr: Positive = 1e-4,
        hidden: Sequence[Count] = (512, 512),
        latent: Count = 16,
        rows: Count | None = None,
    ) -> None:
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
        self.shards, self.warm_up, self.noise_multiplier, self.clip = shards, warm_up, noise_multiplier, clip
        self.critic_steps = critic_steps

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known = labelled_private(private, generator.num_classes)
        shards = shards_of(len(private), min(self.shards, len(private)), rng)
        steps = self.affordable_steps(partial(self.spent, len(shards)))
        critics = [ShardCritic(self, known[rows], private.y[rows]) for rows in shards.to(known.device)]
        for critic in critics:
            critic.train(generator, self.warm_up, rng)
        optimizer = torch.optim.Adam(generator.parameters(), lr=self.lr, betas=BETAS)
        for index in torch.randint(len(shards), (steps,), generator=rng).tolist():
            critics[index].train(generator, self.critic_steps, rng)
            y = generator.labels(self.batch_size, rng)
            x = generator(generator.noise(len(y), rng), y)
            optimizer.zero_grad(set_to_none=True)
            x.backward(self.image_gradient(critics[index].critic, x, y, rng))
            optimizer.step()
        return self.sampled(generator, private, rng, self.spent(len(shards), steps))

    def image_gradient(self, critic: Critic, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """Return the sanitised gradient of the mean loss at the generated images, (n, ...)."""
        images = x.detach().requires_grad_()
        assert self.generator is not None
        score = critic(labelled(images, y, self.generator.num_classes)).sum()
        (gradient,) = torch.autograd.grad(-score, images)
        clipped = clip_rows(gradient.flatten(1), self.clip).view_as(gradient)
        return (clipped + 2 * self.clip * self.noise_multiplier * normal_like(clipped, rng)) / len(x)

    def spent(self, shards: int, steps: int) -> float | None:
        """Return the epsilon of the run, by the accountant, for replacing a record."""
        if self.noise_multiplier == 0:
            return None
        block = self.noise_multiplier / math.sqrt(self.batch_size)
        return shard_epsilon(noise_multiplier=block, shards=shards, queries=steps, delta=self.delta)


class ShardCritic:
    """A critic with its shard: labelled records ``known`` (size, d + classes) and their labels ``y``."""

    def __init__(self, mechanism: GSWGAN, known: Tensor, y: Tensor) -> None:
        self.known, self.y, self.batch_size = known, y, mechanism.batch_size
        self.critic = Critic(known.shape[1], mechanism.hidden).to(known.device)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=mechanism.lr, betas=BETAS)

    def train(self, generator: Generator, steps: int, rng: torch.Generator) -> None:
        """Take steps of WGAN-GP against generated samples of the batch's labels."""
        for _ in range(steps):
            rows = torch.randint(len(self.y), (self.batch_size,), generator=rng).to(self.y.device)
            real, y = self.known[rows], self.y[rows]
            with torch.no_grad():
                fake = labelled(generator(generator.noise(len(y), rng), y), y, generator.num_classes)
            loss = self.critic(fake).mean() - self.critic(real).mean()
            loss = loss + gradient_penalty(self.critic, real, fake, rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
