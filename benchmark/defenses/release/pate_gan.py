"""PATE-GAN: a GAN whose discriminator is a student of noisy majorities of teachers on disjoint shards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.models.generators import Generator
from benchmark.parameters import Count, NonNegative, Positive, Rate
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import laplace_epsilon
from benchmark.training.discriminators import Critic, Teachers, labelled, labelled_private, shards_of

VERSION = 1


class PATEGAN(GeneratorDefense):
    """Generator trained against a student discriminator.

    Jordon, Yoon, van der Schaar, *PATE-GAN: Generating Synthetic Data with Differential Privacy Guarantees*, 2019. The
    student sees generated samples only, each with the label (real or fake) of the teachers' majority after Laplace
    noise. A record changes one teacher, and so the count of votes by at most 1.

    Deviations: implemented from memory; labels are a condition and not a generated column; the accountant composes all
    answers whatever the teachers said (Renyi, dp-accounting), where the paper's is data-dependent.

    Args:
        teachers: number of teachers, each on its own shard.
        teacher_steps, student_steps: before each step of the generator.
        noise: scale of the Laplace noise on the count of votes; 0: the plain majority.
        batch_size: of every network.
        steps: of the generator.
        hidden: widths of the layers of teachers and student.
        target_epsilon, delta, lr, latent, rows: as for :class:`GeneratorDefense`.
    """

    mechanism = "pate_gan"

    def __init__(
        self,
        *,
        teachers: Count = 100,
        teacher_steps: Count = 1,
        student_steps: Count = 1,
        noise: NonNegative = 60.0,
        batch_size: Count = 64,
        steps: Count = 2000,
        target_epsilon: Positive | None = 10.0,
        delta: Rate = 1e-5,
        lr: Positive = 0.001,
        hidden: Sequence[Count] = (32,),
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
        self.teachers, self.teacher_steps, self.student_steps = teachers, teacher_steps, student_steps
        self.noise = noise

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known = labelled_private(private, generator.num_classes)
        shards = shards_of(len(private), min(self.teachers, len(private)), rng).to(known.device)
        teachers = Teachers(known[shards], self.hidden, self.lr)
        steps = self.affordable_steps(self.spent)
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
        return self.sampled(generator, private, rng, self.spent(steps))

    def answer(self, votes: Tensor, teachers: int, rng: torch.Generator) -> Tensor:
        """Return whether the noisy majority says "real", 0 or 1, (n,), from the counts (n,) of that vote."""
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
        """Return the epsilon of the run, by the accountant, for replacing a record."""
        if self.noise == 0:
            return None
        queries = steps * self.student_steps * self.batch_size
        return laplace_epsilon(scale=self.noise, queries=queries, delta=self.delta)
