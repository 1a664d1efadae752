"""PATE-GAN: a GAN whose discriminator is a student of noisy majorities of teachers on disjoint shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.errors import ConfigError, positive
from benchmark.models.generators import Generator
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import laplace_epsilon
from benchmark.training.discriminators import Critic, Teachers, labelled, points, shards_of
from benchmark.training.sanitise import most_steps

VERSION = 1


class PATEGAN(GeneratorDefense):
    """PATE-GAN: Generating Synthetic Data with Differential Privacy Guarantees (Jordon, Yoon, van der Schaar, 2019).

    The student sees generated samples only, each with the label (real or fake) that most teachers give it after
    Laplace's noise. A record changes one teacher, and so the count of votes by at most 1.

    Deviations: from memory; labels are a condition and not a column that is generated; the accountant composes all
    answers whatever the teachers said (Renyi, dp-accounting), where the paper's is data-dependent.

    Args:
        teachers: as many shards. teacher_steps, student_steps: before each of the generator's.
        noise: scale of Laplace's noise on the count of votes; 0: the plain majority.
        batch_size: of every network. steps: of the generator.
        target_epsilon: training stops before the accountant exceeds it; None: never. delta: of the guarantee.
        lr: of Adam. hidden: widths of the judges' layers. latent: dimensions of the generator's noise.
        rows: released samples; None: as many as there are private ones.
    """

    def __init__(
        self,
        *,
        teachers: int,
        teacher_steps: int,
        student_steps: int,
        noise: float,
        batch_size: int,
        steps: int,
        target_epsilon: float | None,
        delta: float,
        lr: float,
        hidden: Sequence[int],
        latent: int,
        rows: int | None,
    ) -> None:
        for name, value in (("teachers", teachers), ("batch_size", batch_size), ("lr", lr)):
            positive(f"pate_gan.{name}", value)
        if noise < 0:
            raise ConfigError(f"pate_gan.noise must be at least 0, got {noise}.")
        self.teachers, self.teacher_steps, self.student_steps = teachers, teacher_steps, student_steps
        self.noise, self.batch_size, self.steps = noise, batch_size, steps
        self.target_epsilon, self.delta = target_epsilon, delta
        self.lr, self.hidden, self.latent, self.rows = lr, list(hidden), latent, rows

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "pate_gan", "synthetic": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known = points(private, generator.num_classes)
        shards = shards_of(len(private), min(self.teachers, len(private)), rng).to(known.device)
        teachers = Teachers(known[shards], self.hidden, self.lr)
        steps = most_steps(self.spent, epsilon=self.target_epsilon, limit=self.steps)
        student = Critic(known.shape[1], self.hidden).to(known.device)
        optimizers = [torch.optim.Adam(module.parameters(), lr=self.lr) for module in (student, generator)]
        for _ in range(steps):
            for _ in range(self.teacher_steps):
                teachers.learn(self._fake(generator, rng).detach(), rng)
            for _ in range(self.student_steps):
                fake = self._fake(generator, rng).detach()
                answer = self.answer(teachers.votes(fake), len(shards), rng)
                self._step(optimizers[0], F.binary_cross_entropy_with_logits(student(fake), answer))
            self._step(optimizers[1], F.softplus(-student(self._fake(generator, rng))).mean())
        return self.released(generator, len(private), self.rows, rng, self.spent(steps), self.delta)

    def answer(self, votes: Tensor, teachers: int, rng: torch.Generator) -> Tensor:
        """Whether the noisy majority says "real", 0 or 1: counts (n,) of that vote -> (n,)."""
        share = (torch.rand(votes.shape, generator=rng) - 0.5).to(votes.device)
        laplace = -share.sign() * torch.log1p(-2 * share.abs())
        return (votes + self.noise * laplace > teachers / 2).float()

    def _fake(self, generator: Generator, rng: torch.Generator) -> Tensor:
        y = generator.labels(self.batch_size, rng)
        return labelled(generator(generator.noise(len(y), rng), y), y, generator.num_classes)

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def spent(self, steps: int) -> float | None:
        """Epsilon of the run, by the accountant, for replacing a record."""
        if self.noise == 0:
            return None
        queries = steps * self.student_steps * self.batch_size
        return laplace_epsilon(scale=self.noise, queries=queries, delta=self.delta)
