"""G-PATE: a generator that follows noisy votes of teachers on the direction in which its samples should move."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.errors import ConfigError
from benchmark.parameters import Count, Fraction, NonNegative, Positive, Rate
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import gaussian_epsilon
from benchmark.training.discriminators import Teachers, labelled, labelled_private, shards_of

VERSION = 1


class GPATE(GeneratorDefense):
    """Generator trained on a private aggregate of teachers' gradients.

    Long et al., *G-PATE: Scalable Differentially Private Data Generator via Private Aggregation of Teacher
    Discriminators*, NeurIPS 2021. Each teacher's gradient at a generated image is projected at random on a few
    directions and each coordinate is discretised into bins: a vote. Confident Gaussian aggregation answers with the bin
    of most votes after noise if the largest count, with noise of its own, is large enough, and else with 0.

    Deviations: gradients are scaled to norm 1 before they are projected; the accountant composes both noisy steps of
    every question, answered or not and whatever the votes, where the paper's is data-dependent; dense networks.

    Args:
        teachers: number of teachers, each on its own shard.
        teacher_steps: before each step of the generator.
        noise, threshold_noise: standard deviations on the counts of votes and on the largest of them; 0 in both: none.
        threshold: share of the teachers that the largest count has to reach.
        directions: of the projection.
        bins: of a coordinate, from -``bound`` to ``bound``.
        batch_size, steps: of the generator.
        hidden: widths of a teacher's layers.
        target_epsilon, delta, lr, latent, rows: as for :class:`GeneratorDefense`.
    """

    mechanism = "g_pate"

    def __init__(
        self,
        *,
        teachers: Count = 2000,
        teacher_steps: Count = 1,
        noise: NonNegative = 100.0,
        threshold_noise: NonNegative = 600.0,
        threshold: Fraction = 0.5,
        directions: Count = 10,
        bins: Count = 3,
        bound: Positive = 1.5,
        batch_size: Count = 64,
        steps: Count = 20000,
        target_epsilon: Positive | None = 10.0,
        delta: Rate = 1e-5,
        lr: Positive = 1e-4,
        hidden: Sequence[Count] = (32,),
        latent: Count = 16,
        rows: Count | None = None,
    ) -> None:
        if min(noise, threshold_noise) < 0 or (noise == 0) != (threshold_noise == 0):
            raise ConfigError(
                "g_pate: noise and threshold_noise are both above 0, or both 0 without privacy; "
                f"got {noise} and {threshold_noise}."
            )
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
        self.teachers, self.teacher_steps, self.threshold = teachers, teacher_steps, threshold
        self.noise, self.threshold_noise = noise, threshold_noise
        self.directions, self.bins, self.bound = directions, bins, bound

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known = labelled_private(private, generator.num_classes)
        shards = shards_of(len(private), min(self.teachers, len(private)), rng).to(known.device)
        teachers = Teachers(known[shards], self.hidden, self.lr)
        steps = self.affordable_steps(self.spent)
        optimizer = torch.optim.Adam(generator.parameters(), lr=self.lr)
        for _ in range(steps):
            y = generator.labels(self.batch_size, rng)
            for _ in range(self.teacher_steps):
                with torch.no_grad():
                    fake = labelled(generator(generator.noise(len(y), rng), y), y, generator.num_classes)
                teachers.learn(fake, rng)
            x = generator(generator.noise(len(y), rng), y)
            seen = labelled(x.detach(), y, generator.num_classes)
            gradients = teachers.directions(seen)[:, :, : x[0].numel()]
            optimizer.zero_grad(set_to_none=True)
            x.backward(self.consensus(gradients, rng).view_as(x) / len(x))
            optimizer.step()
        return self.sampled(generator, private, rng, self.spent(steps))

    def consensus(self, gradients: Tensor, rng: torch.Generator) -> Tensor:
        """Return one sanitised direction a sample, (n, d), from those of k teachers, (k, n, d)."""
        projection = torch.randn((gradients.shape[2], self.directions), generator=rng).to(gradients.device)
        width = 2 * self.bound / self.bins
        bins = ((gradients @ projection + self.bound) / width).floor().clamp(0, self.bins - 1).long()
        votes = F.one_hot(bins, self.bins).sum(dim=0).float()  # (n, directions, bins)
        largest = votes.amax(dim=2)
        confident = largest + self.threshold_noise * normal_like(largest, rng) >= self.threshold * len(gradients)
        chosen = (votes + self.noise * normal_like(votes, rng)).argmax(dim=2)
        middle = (chosen + 0.5) * width - self.bound
        return (middle * confident) @ projection.T / self.directions

    def spent(self, steps: int) -> float | None:
        """Return the epsilon of the run, by the accountant, for replacing a record.

        Replacing a record moves one vote: the largest count by at most 1 and the counts of a question by sqrt(2). The
        two Gaussian steps of a question together are one of the noise multiplier below.
        """
        if self.noise == 0:
            return None
        noise_multiplier = 1 / math.sqrt(1 / self.threshold_noise**2 + 2 / self.noise**2)
        queries = steps * self.batch_size * self.directions
        return gaussian_epsilon(noise_multiplier=noise_multiplier, steps=queries, delta=self.delta)
