"""DP-Sinkhorn: a generator trained with a semi-debiased Sinkhorn loss whose image gradients are sanitised."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.models.generators import Generator
from benchmark.parameters import Count, Fraction, NonNegative, Positive, Rate
from benchmark.settings.release.defense import Release
from benchmark.training.sanitise import clip_block, poisson_epsilon, sanitise
from benchmark.training.sinkhorn import MixedCost, Sinkhorn, semi_debiased

VERSION = 1


class DPSinkhorn(GeneratorDefense):
    """Generator trained on sanitised image gradients of a Sinkhorn loss.

    Cao et al., *Don't Generate Me: Training Differentially Private Generative Models with Sinkhorn Divergence*, 2021.
    Every step draws a Poisson batch of private samples, takes the gradient of the loss at the *generated images*, clips
    that block as a whole to ``clip``, adds noise of standard deviation ``2 * clip * noise_multiplier`` and only then
    passes it through the generator. Private data reach the parameters in no other way. Labels enter the cost as scaled
    one-hot vectors; generated labels are uniform, never the private histogram.

    Deviations: the number of generated samples is fixed, as in the paper (the published code reveals the realised batch
    size); an empty batch is a step without a private term; Gaussian noise is float32, which is not cryptographic DP.

    Args:
        noise_multiplier: of the Gaussian mechanism; 0 with ``private=true`` is the clipped but noiseless control.
        private: whether gradients are clipped and noised at all; ``false`` is the paper's non-private row.
        perturb: ``image`` (the paper), or ``param``: the private term's gradient at the generator's parameters.
        clip: bound of the block's norm.
        batch_size: expected private batch and number of generated samples.
        weight_decay: of Adam.
        debias: share p in [0, 1] of further generated samples: 0 biased, between semi-debiased, 1 debiased.
        l1, l2: weights of the two norms in the cost.
        blur: weight of the entropy.
        label_weight: factor of the one-hot label in the cost.
        threshold: released values below 1/2 become 0, as before the paper's evaluation (post-processing).
        steps, target_epsilon, delta, lr, latent, rows: as for :class:`GeneratorDefense`.
    """

    mechanism = "dp_sinkhorn"

    def __init__(
        self,
        *,
        noise_multiplier: NonNegative = 1.1,
        private: bool = True,
        perturb: Literal["image", "param"] = "image",
        clip: Positive = 0.5,
        batch_size: Count = 50,
        steps: Count = 3446203,
        target_epsilon: Positive | None = 10.0,
        delta: Rate = 1e-5,
        lr: Positive = 1e-5,
        weight_decay: NonNegative = 1e-5,
        debias: Fraction = 0.2,
        l1: NonNegative = 1.0,
        l2: NonNegative = 1.0,
        blur: Positive = 0.05,
        label_weight: NonNegative = 15.0,
        latent: Count = 16,
        rows: Count | None = None,
        threshold: bool = False,
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
        self.noise_multiplier, self.private, self.perturb, self.clip = noise_multiplier, private, perturb, clip
        self.weight_decay = weight_decay
        self.extra, self.label_weight = int(debias * batch_size), label_weight
        self.transport = Sinkhorn(MixedCost(l2=l2, l1=l1), blur)
        self.threshold = threshold

    def release(self, private: Split, rng: torch.Generator) -> Release:
        generator = self.untrained(private)
        steps, rate = self.plan(len(private))
        optimizer = torch.optim.Adam(generator.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        for _ in range(steps):
            rows = (torch.rand(len(private), generator=rng) < rate).nonzero().squeeze(1)
            batch = private[rows.to(private.y.device, non_blocking=True)]
            optimizer.zero_grad(set_to_none=True)
            self.step(generator, batch, rng)
            optimizer.step()
        sampled = self.sampled(generator, private, rng, self.spent(rate, steps))
        return replace(sampled, x=sampled.x.where(sampled.x >= 0.5, 0)) if self.threshold else sampled

    @property
    def is_private(self) -> bool:
        return self.private and self.noise_multiplier > 0

    def plan(self, samples: int) -> tuple[int, float]:
        """Return steps and sampling rate of a run on ``samples`` records."""
        rate = min(1.0, self.batch_size / samples)
        return self.affordable_steps(partial(self.spent, rate)), rate

    def spent(self, rate: float, steps: int) -> float | None:
        """Return the epsilon of the run, by the accountant."""
        if not self.is_private:
            return None
        return poisson_epsilon(noise_multiplier=self.noise_multiplier, rate=rate, steps=steps, delta=self.delta)

    # -- one step ----------------------------------------------------------------------------------
    def step(self, generator: Generator, batch: Split, rng: torch.Generator) -> None:
        """Leave the (sanitised) gradient of one step in the generator's parameters."""
        count = self.batch_size + self.extra
        y = torch.randint(generator.num_classes, (self.batch_size,), generator=rng)
        y = torch.cat([y, y[: self.extra]])  # further samples of the same labels
        y = y.to(batch.y.device, non_blocking=True)
        x = generator(generator.noise(count, rng), y)
        if self.perturb == "param":
            self._step_at_parameters(generator, x, y, batch, rng)
        else:
            x.backward(self.image_gradient(x, y, batch, rng))

    def image_gradient(self, x: Tensor, y: Tensor, batch: Split, rng: torch.Generator) -> Tensor:
        """Return the sanitised gradient at the generated images, (n + n', ...)."""
        images = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(images, y, batch), images)
        if not self.private:
            return gradient
        first, rest = gradient[: self.batch_size], gradient[self.batch_size :]
        return torch.cat([sanitise(first, self.clip, self.noise_multiplier, rng), clip_block(rest, self.clip)])

    def loss(self, x: Tensor, y: Tensor, batch: Split) -> Tensor:
        """Return the semi-debiased Sinkhorn loss, (); without private samples only the repulsion of generated ones."""
        generated = self._points(x, y)
        if len(batch):
            real = self._points(2 * batch.x - 1, batch.y)
            return semi_debiased(self.transport, generated, real, self.extra)
        return -self.transport(generated[: self.batch_size], generated[self.extra :])

    def _points(self, x: Tensor, y: Tensor) -> Tensor:
        """Return flattened samples with scaled one-hot labels, (n, d + classes)."""
        assert self.generator is not None
        labels = F.one_hot(y, self.generator.num_classes).to(x.dtype)
        return torch.cat([x.flatten(1), self.label_weight * labels], dim=1)

    def _step_at_parameters(
        self, generator: Generator, x: Tensor, y: Tensor, batch: Split, rng: torch.Generator
    ) -> None:
        """Clip and noise the private term's gradient at the parameters instead of the images (the ablation)."""
        parameters = list(generator.parameters())
        generated = self._points(x, y)
        repulsion = -self.transport(generated[: self.batch_size], generated[self.extra :])
        attraction = self.loss(x, y, batch) - repulsion if len(batch) else 0 * x.sum()
        free_gradients = torch.autograd.grad(repulsion, parameters, retain_graph=True)
        private_gradients = torch.autograd.grad(attraction, parameters, allow_unused=True)
        flat = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten()
                for g, p in zip(private_gradients, parameters, strict=True)
            ]
        )
        if self.private:
            flat = sanitise(flat, self.clip, self.noise_multiplier, rng)
        sizes = [p.numel() for p in parameters]
        for parameter, own, part in zip(parameters, free_gradients, flat.split(sizes), strict=True):
            parameter.grad = own + part.view_as(parameter)
