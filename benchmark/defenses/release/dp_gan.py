"""DP-GAN and DP-CGAN: GANs whose judge learns by DP-SGD, and whose generator learns from the judge alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.errors import ConfigError, positive
from benchmark.models.generators import Generator
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release
from benchmark.training.discriminators import Critic, labelled, points
from benchmark.training.functional import Net
from benchmark.training.per_sample import clipped_sum
from benchmark.training.sanitise import most_steps, poisson_epsilon

VERSION = 1
MECHANISMS = {"wasserstein": "dp_gan", "cross_entropy": "dp_cgan"}  # by objective


class DPGAN(GeneratorDefense):
    """DP-SGD on the judge; every step of the generator is post-processing.

    ``wasserstein`` is DP-GAN (Xie, Lin, Wang, Wang, Zhou, 2018): the gradient of a pair (private, generated) is clipped
    as one, and the critic's weights are kept within ``weight_bound``. ``cross_entropy`` is DP-CGAN (Torkzadehmahani,
    Kairouz, Paten, 2019): gradients of private and of generated samples are clipped apart.

    Deviations: both are from memory; both condition on labels, since a release needs them; private batches are
    Poisson-sampled, and divided by their expected size; dense networks; Adam.

    Args:
        objective: of the keys of :data:`MECHANISMS`.
        noise_multiplier: standard deviation of the noise on the sum of clipped gradients, over ``clip``; 0: clipped
            without noise.
        clip: bound of a gradient's norm.
        batch_size: expected private batch, and number of generated samples.
        steps: of the judge. judge_steps: before each step of the generator.
        target_epsilon: training stops before the accountant exceeds it; None: never. delta: of the guarantee.
        weight_bound: largest absolute weight of the critic; of ``wasserstein`` only.
        lr: of Adam. hidden: widths of the judge's layers. latent: dimensions of the noise.
        rows: released samples; None: as many as there are private ones.
    """

    def __init__(
        self,
        *,
        objective: str,
        noise_multiplier: float,
        clip: float,
        batch_size: int,
        steps: int,
        judge_steps: int,
        target_epsilon: float | None,
        delta: float,
        weight_bound: float,
        lr: float,
        hidden: Sequence[int],
        latent: int,
        rows: int | None,
    ) -> None:
        if objective not in MECHANISMS or noise_multiplier < 0:
            raise ConfigError(
                f"objective is one of {list(MECHANISMS)} and noise_multiplier at least 0; "
                f"got {objective!r} and {noise_multiplier}."
            )
        self.mechanism = MECHANISMS[objective]
        named = {
            "clip": clip,
            "batch_size": batch_size,
            "judge_steps": judge_steps,
            "lr": lr,
            "weight_bound": weight_bound,
        }
        for name, value in named.items():
            positive(f"{self.mechanism}.{name}", value)
        self.objective, self.noise_multiplier, self.clip = objective, noise_multiplier, clip
        self.batch_size, self.steps, self.judge_steps = batch_size, steps, judge_steps
        self.target_epsilon, self.delta, self.weight_bound = target_epsilon, delta, weight_bound
        self.lr, self.hidden, self.latent, self.rows = lr, list(hidden), latent, rows

    def facts(self) -> dict[str, Any]:
        return {"mechanism": self.mechanism, "synthetic": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        known, rate = points(private, generator.num_classes), min(1.0, self.batch_size / len(private))
        critic = Critic(known.shape[1], self.hidden).to(known.device)
        judge, steps = Net(critic), most_steps(partial(self.spent, rate), epsilon=self.target_epsilon, limit=self.steps)
        optimizers = [torch.optim.Adam(module.parameters(), lr=self.lr) for module in (critic, generator)]
        for step in range(steps):
            rows = (torch.rand(len(private), generator=rng) < rate).to(known.device)
            slope = self.judge_gradient(judge, generator, known[rows], private.y[rows], rng)
            for parameter, part in zip(critic.parameters(), judge.layout.split(slope).values(), strict=True):
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
        return self.released(generator, len(private), self.rows, rng, self.spent(rate, steps), self.delta)

    def judge_gradient(self, judge: Net, generator: Generator, real: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """The judge's gradient (d,) as it may leave the curator, of a Poisson batch (n, d + classes) of labels (n,)."""
        params, clip = judge.initial(), self.clip
        total = torch.zeros_like(params)
        with torch.no_grad():
            paired = self.objective == "wasserstein"
            y = y if paired else generator.labels(self.batch_size, rng)
            fake = self._fake(generator, y, rng) if len(y) else real
        if len(real) and paired:
            both = torch.stack([real, fake], dim=1)
            total = clipped_sum(judge, params, both, y, clip, lambda scores, _: (scores[:, 1] - scores[:, 0]).sum())
        elif not paired:
            total = clipped_sum(judge, params, fake, y, clip, lambda scores, _: F.softplus(scores).sum())
            if len(real):
                total = total + clipped_sum(judge, params, real, y, clip, lambda scores, _: F.softplus(-scores).sum())
        return (total + clip * self.noise_multiplier * normal_like(total, rng)) / self.batch_size

    def _fake(self, generator: Generator, y: Tensor, rng: torch.Generator) -> Tensor:
        return labelled(generator(generator.noise(len(y), rng), y), y, generator.num_classes)

    def spent(self, rate: float, steps: int) -> float | None:
        """Epsilon of the run, by the accountant, for adding or removing a record."""
        if self.noise_multiplier == 0:
            return None
        return poisson_epsilon(noise_multiplier=self.noise_multiplier, rate=rate, steps=steps, delta=self.delta)
