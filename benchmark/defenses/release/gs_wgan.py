"""GS-WGAN: a generator that learns from noised image gradients of critics on disjoint shards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.errors import ConfigError, positive
from benchmark.models.generators import Generator
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import shard_epsilon
from benchmark.training.adversarial_groups import gradient_penalty
from benchmark.training.clipping import clip_rows
from benchmark.training.discriminators import Critic, labelled, points, shards_of
from benchmark.training.sanitise import most_steps

VERSION = 1
BETAS = (0.5, 0.9)


class GSWGAN(GeneratorDefense):
    """GS-WGAN: A Gradient-Sanitized Approach for Learning Differentially Private Generators (Chen et al., 2020).

    Each step asks one critic, drawn at random among those on disjoint shards, for the gradient at every generated
    image; it is clipped to ``clip`` and gets noise of standard deviation ``2 * clip * noise_multiplier``.

    Deviations: dense critics. The published accountant composes steps x images as if each image had drawn a shard of
    its own, but the images of a step share one; here a step is one Gaussian query of sensitivity ``2 * clip *
    sqrt(batch_size)``, so equal noise counts for far more epsilon. As published, a critic keeps what it learnt at its
    earlier turns, whose secret history the accountant leaves out.

    Args:
        shards: as many critics. warm_up: steps of each against the untrained generator, before all.
        noise_multiplier: of one image's gradient; 0: clipped without noise.
        clip: bound of one image's gradient.
        batch_size: generated images of a step, and private ones of a critic's step.
        steps: of the generator. critic_steps: of the critic asked, before each of them.
        target_epsilon: training stops before the accountant exceeds it; None: never. delta: of the guarantee.
        lr: of Adam for all networks. hidden: widths of a critic's layers. latent: dimensions of the noise.
        rows: released samples; None: as many as there are private ones.
    """

    def __init__(
        self,
        *,
        shards: int,
        warm_up: int,
        noise_multiplier: float,
        clip: float,
        batch_size: int,
        steps: int,
        critic_steps: int,
        target_epsilon: float | None,
        delta: float,
        lr: float,
        hidden: Sequence[int],
        latent: int,
        rows: int | None,
    ) -> None:
        for name, value in (("shards", shards), ("clip", clip), ("batch_size", batch_size), ("lr", lr)):
            positive(f"gs_wgan.{name}", value)
        if noise_multiplier < 0:
            raise ConfigError(f"gs_wgan.noise_multiplier must be at least 0, got {noise_multiplier}.")
        self.shards, self.warm_up, self.noise_multiplier, self.clip = shards, warm_up, noise_multiplier, clip
        self.batch_size, self.steps, self.critic_steps = batch_size, steps, critic_steps
        self.target_epsilon, self.delta = target_epsilon, delta
        self.lr, self.hidden, self.latent, self.rows = lr, list(hidden), latent, rows

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "gs_wgan", "synthetic": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known = points(private, generator.num_classes)
        shards = shards_of(len(private), min(self.shards, len(private)), rng)
        steps = most_steps(partial(self.spent, len(shards)), epsilon=self.target_epsilon, limit=self.steps)
        schools = [School(self, known[rows], private.y[rows]) for rows in shards.to(known.device)]
        for school in schools:
            school.learn(generator, self.warm_up, rng)
        optimizer = torch.optim.Adam(generator.parameters(), lr=self.lr, betas=BETAS)
        for turn in torch.randint(len(shards), (steps,), generator=rng).tolist():
            schools[turn].learn(generator, self.critic_steps, rng)
            y = generator.labels(self.batch_size, rng)
            x = generator(generator.noise(len(y), rng), y)
            optimizer.zero_grad(set_to_none=True)
            x.backward(self.image_gradient(schools[turn].critic, x, y, rng))
            optimizer.step()
        return self.released(generator, len(private), self.rows, rng, self.spent(len(shards), steps), self.delta)

    def image_gradient(self, critic: Critic, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """The mean loss's gradient at the generated images, (n, ...), as it may leave the curator."""
        held = x.detach().requires_grad_()
        assert self.generator is not None
        score = critic(labelled(held, y, self.generator.num_classes)).sum()
        (gradient,) = torch.autograd.grad(-score, held)
        clipped = clip_rows(gradient.flatten(1), self.clip).view_as(gradient)
        return (clipped + 2 * self.clip * self.noise_multiplier * normal_like(clipped, rng)) / len(x)

    def spent(self, shards: int, steps: int) -> float | None:
        """Epsilon of the run, by the accountant, for replacing a record."""
        if self.noise_multiplier == 0:
            return None
        block = self.noise_multiplier / math.sqrt(self.batch_size)
        return shard_epsilon(noise_multiplier=block, shards=shards, queries=steps, delta=self.delta)


class School:
    """A critic and the only records that it sees: ``known`` (size, d + classes) with labels ``y``."""

    def __init__(self, mechanism: GSWGAN, known: Tensor, y: Tensor) -> None:
        self.known, self.y, self.batch_size = known, y, mechanism.batch_size
        self.critic = Critic(known.shape[1], mechanism.hidden).to(known.device)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=mechanism.lr, betas=BETAS)

    def learn(self, generator: Generator, steps: int, rng: torch.Generator) -> None:
        """Steps of WGAN-GP against generated samples of the batch's labels."""
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
