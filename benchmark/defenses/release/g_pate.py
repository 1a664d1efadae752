"""G-PATE: a generator that follows the noisy votes of teachers on where its samples should move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.errors import ConfigError, positive
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.accounting import gaussian_epsilon
from benchmark.training.discriminators import Teachers, labelled, points, shards_of
from benchmark.training.sanitise import most_steps

VERSION = 1


class GPATE(GeneratorDefense):
    """G-PATE: Scalable Differentially Private Data Generator via Private Aggregation of Teacher Discriminators
    (Long et al., NeurIPS 2021).

    Each teacher's gradient at a generated image is projected at random on a few directions and each coordinate put into
    one of some bins: a vote. Confident Gaussian aggregation answers with the bin of most votes after noise, where the
    largest count is clear enough after noise of its own; else with 0.

    Deviations: gradients are scaled to norm 1 before they are projected; the accountant composes both noisy steps of
    every question, answered or not and whatever the votes, where the paper's is data-dependent; dense networks.

    Args:
        teachers: as many shards. teacher_steps: before each step of the generator.
        noise, threshold_noise: standard deviations on the counts of votes and on the largest of them; 0 in both: none.
        threshold: share of the teachers that the largest count has to reach.
        directions: of the projection. bins: of a coordinate, from -``bound`` to ``bound``.
        batch_size, steps: of the generator.
        target_epsilon: training stops before the accountant exceeds it; None: never. delta: of the guarantee.
        lr: of Adam. hidden: widths of a teacher's layers. latent: dimensions of the generator's noise.
        rows: released samples; None: as many as there are private ones.
    """

    def __init__(
        self,
        *,
        teachers: int,
        teacher_steps: int,
        noise: float,
        threshold_noise: float,
        threshold: float,
        directions: int,
        bins: int,
        bound: float,
        batch_size: int,
        steps: int,
        target_epsilon: float | None,
        delta: float,
        lr: float,
        hidden: Sequence[int],
        latent: int,
        rows: int | None,
    ) -> None:
        for name, value in (("teachers", teachers), ("directions", directions), ("bins", bins), ("bound", bound)):
            positive(f"g_pate.{name}", value)
        if min(noise, threshold_noise) < 0 or (noise == 0) != (threshold_noise == 0):
            raise ConfigError(
                "g_pate: noise and threshold_noise are both above 0, or both 0 without privacy; "
                f"got {noise} and {threshold_noise}."
            )
        self.teachers, self.teacher_steps, self.threshold = teachers, teacher_steps, threshold
        self.noise, self.threshold_noise = noise, threshold_noise
        self.directions, self.bins, self.bound, self.batch_size, self.steps = directions, bins, bound, batch_size, steps
        self.target_epsilon, self.delta = target_epsilon, delta
        self.lr, self.hidden, self.latent, self.rows = lr, list(hidden), latent, rows

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "g_pate", "synthetic": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known = points(private, generator.num_classes)
        shards = shards_of(len(private), min(self.teachers, len(private)), rng).to(known.device)
        teachers = Teachers(known[shards], self.hidden, self.lr)
        steps = most_steps(self.spent, epsilon=self.target_epsilon, limit=self.steps)
        optimizer = torch.optim.Adam(generator.parameters(), lr=self.lr)
        for _ in range(steps):
            y = generator.labels(self.batch_size, rng)
            for _ in range(self.teacher_steps):
                with torch.no_grad():
                    fake = labelled(generator(generator.noise(len(y), rng), y), y, generator.num_classes)
                teachers.learn(fake, rng)
            x = generator(generator.noise(len(y), rng), y)
            seen = labelled(x.detach(), y, generator.num_classes)
            wanted = teachers.directions(seen)[:, :, : x[0].numel()]
            optimizer.zero_grad(set_to_none=True)
            x.backward(self.consensus(wanted, rng).view_as(x) / len(x))
            optimizer.step()
        return self.released(generator, len(private), self.rows, rng, self.spent(steps), self.delta)

    def consensus(self, wanted: Tensor, rng: torch.Generator) -> Tensor:
        """One direction a sample, as it may leave the curator: (k, n, d) of k teachers -> (n, d)."""
        projection = torch.randn((wanted.shape[2], self.directions), generator=rng).to(wanted.device)
        width = 2 * self.bound / self.bins
        bins = ((wanted @ projection + self.bound) / width).floor().clamp(0, self.bins - 1).long()
        votes = F.one_hot(bins, self.bins).sum(dim=0).float()  # (n, directions, bins)
        largest = votes.amax(dim=2)
        sure = largest + self.threshold_noise * normal_like(largest, rng) >= self.threshold * len(wanted)
        chosen = (votes + self.noise * normal_like(votes, rng)).argmax(dim=2)
        middle = (chosen + 0.5) * width - self.bound
        return (middle * sure) @ projection.T / self.directions

    def spent(self, steps: int) -> float | None:
        """Epsilon of the run, by the accountant, for replacing a record.

        That moves one vote: the largest count by at most 1 and the counts of a question by sqrt(2). The two Gaussian
        steps of a question together are one of the noise multiplier below.
        """
        if self.noise == 0:
            return None
        together = 1 / math.sqrt(1 / self.threshold_noise**2 + 2 / self.noise**2)
        queries = steps * self.batch_size * self.directions
        return gaussian_epsilon(noise_multiplier=together, steps=queries, delta=self.delta)
