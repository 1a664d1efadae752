"""Inputs (stimuli) that drive chosen outputs of a network to target values, found directly or by small generators.

Nikolaidis et al., *Learning Realistic Patterns from Unrealistic Stimuli*, JAIR 72, 2021, arXiv 2009.10007, and its
predecessor, arXiv 1903.02313. A reconstruction: their code and equations were not at hand.

Stimuli are in units of the data's overall standard deviation about its overall mean; the caller maps them back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.seeds import normal_like
from benchmark.training.adversarial_groups import dense

Outputs = Callable[[Tensor], Tensor]
"""Function of stimuli (n, ...) that returns the driven logits (n, k)."""

ExtraLoss = Callable[[Tensor], Tensor]
"""Function of stimuli (n, ...) that returns a further loss, (n,)."""

CHUNK_SIZE = 500  # stimuli optimised at once
BATCH_SIZE = 64  # of a generator's step
HIDDEN = (128, 128)
DISTANCE_FLOOR = 0.1  # keeps the diversity term finite for equal latent codes


@dataclass(frozen=True)
class Regulariser:
    """Penalty of ``l2`` times the mean square and ``variation`` times the mean absolute difference of neighbours."""

    l2: float
    variation: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return penalties (n,) of stimuli (n, ...)."""
        return self.l2 * x.flatten(1).square().mean(dim=1) + self.variation * total_variation(x)


def total_variation(x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Return the mean absolute difference of neighbours, (n,): along time, both ways for images, 0 for tables."""
    axes = range(2, x.ndim)
    return sum(
        (x.diff(dim=axis).abs().flatten(1).mean(dim=1) for axis in axes), start=torch.zeros_like(x.flatten(1)[:, 0])
    )


def coloured_noise(
    count: int, shape: tuple[int, ...], exponent: float, rng: torch.Generator
) -> Float[Tensor, "count ..."]:
    """Return noise (count, *shape) of mean 0 and sd 1 whose amplitude falls as frequency to the -``exponent``.

    Exponent 0 is white, 1/2 is 1/f noise by its power, 1 by its amplitude. Along time for signals and both ways for
    images; columns of tables have no order, and their noise stays white.
    """
    noise = torch.randn((count, *shape), generator=rng)
    axes = tuple(range(2, noise.ndim))
    if axes and exponent:
        sides = [torch.fft.fftfreq(noise.shape[axis]) for axis in axes]
        frequency = torch.stack(torch.meshgrid(*sides, indexing="ij")).square().sum(dim=0).sqrt()
        gain = torch.where(frequency > 0, frequency, 1.0) ** -exponent * (frequency > 0)
        noise = torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) * gain, dim=axes).real
    flat = noise.flatten(1)
    flat = (flat - flat.mean(dim=1, keepdim=True)) / flat.std(dim=1, keepdim=True).clamp_min(1e-6)
    return flat.view_as(noise)


def target_outputs(count: int, outputs: int, rng: torch.Generator) -> Float[Tensor, "count outputs"]:
    """Return target values of the outputs, (count, outputs): ``1 - t`` and ``t`` at two random outputs, t uniform."""
    t = torch.rand((count, 1), generator=rng)
    pair = torch.rand((count, outputs), generator=rng).argsort(dim=1)
    first, second = (F.one_hot(pair[:, min(place, outputs - 1)], outputs) for place in (0, 1))
    return (1 - t) * first + t * second


def kl_divergence(target: Float[Tensor, "n k"], logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return ``KL(target || softmax(logits))``, (n,)."""
    return (torch.xlogy(target, target) - target * logits.log_softmax(dim=1)).sum(dim=1)


def anonymity_loss(logits: Float[Tensor, "n persons"]) -> Float[Tensor, " n"]:
    """Return ``KL(uniform || softmax(logits))``, (n,): 0 where an identity network cannot tell people apart."""
    return -logits.log_softmax(dim=1).mean(dim=1) - math.log(logits.shape[1])


def person_loss(logits: Float[Tensor, "n persons"], person: int) -> Float[Tensor, " n"]:
    """Return ``-log(1 - p)``, (n,), for an identity network's probability p of one person of interest."""
    if logits.shape[1] == 1:
        return torch.zeros_like(logits[:, 0])
    others = torch.cat([logits[:, :person], logits[:, person + 1 :]], dim=1).logsumexp(dim=1)
    return F.softplus(logits[:, person] - others)


def optimise_stimuli(
    outputs: Outputs, target: Tensor, start: Tensor, *, steps: int, lr: float, penalty: Regulariser, extra: ExtraLoss
) -> Tensor:
    """Return stimuli (n, ...) by Adam from ``start``, ``min_x KL(q || softmax T(x)) + R(x) + extra(x)`` each.

    Args:
        target: (n, k), the target values q of the outputs.
    """
    found = []
    for x, q in zip(start.split(CHUNK_SIZE), target.split(CHUNK_SIZE), strict=True):
        x = x.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=lr)
        for _ in range(steps):
            loss = (kl_divergence(q, outputs(x)) + penalty(x) + extra(x)).sum()
            (x.grad,) = torch.autograd.grad(loss, [x])
            optimizer.step()
        found.append(x.detach())
    return torch.cat(found)


class StimulusGenerator(nn.Module):
    """Generator of stimuli (n, *shape) from noise z (n, latent) and target values q (n, k)."""

    def __init__(self, shape: tuple[int, ...], outputs: int, latent: int) -> None:
        super().__init__()
        self.shape, self.latent = shape, latent
        self.body = dense(latent + outputs, HIDDEN, math.prod(shape))

    def forward(self, z: Tensor, q: Tensor) -> Tensor:
        return self.body(torch.cat([z, q], dim=1)).view(-1, *self.shape)


def diversity(z: Tensor, x: Tensor) -> Tensor:
    """Return ``E min(1, |x1 - x2| / (|z1 - z2| + 0.1))`` over neighbours in the batch, (), ``|x|`` being RMS."""
    x = x.flatten(1)
    distance = (x - x.roll(1, dims=0)).norm(dim=1) / math.sqrt(x.shape[1])
    return (distance / ((z - z.roll(1, dims=0)).norm(dim=1) + DISTANCE_FLOOR)).clamp_max(1).mean()


def train_stimulus_generator(
    generator: StimulusGenerator,
    outputs: Outputs,
    count: int,
    *,
    steps: int,
    lr: float,
    penalty: Regulariser,
    spread: float,
    extra: ExtraLoss,
    rng: torch.Generator,
) -> None:
    """Train a generator of stimuli: ``min_G E[KL(q || softmax T(G(z, q))) + R + extra - spread * D]``.

    Args:
        count: of the outputs.
        spread: weight of :func:`diversity`.
    """
    device = next(generator.parameters()).device
    optimizer = torch.optim.Adam(generator.parameters(), lr=lr)
    for _ in range(steps):
        q = target_outputs(BATCH_SIZE, count, rng).to(device)
        z = normal_like(q.new_empty(BATCH_SIZE, generator.latent), rng)
        x = generator(z, q)
        loss = (kl_divergence(q, outputs(x)) + penalty(x) + extra(x)).mean() - spread * diversity(z, x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def sample_stimuli(generator: StimulusGenerator, target: Tensor, rng: torch.Generator) -> Tensor:
    """Return stimuli (n, ...) for target values (n, k)."""
    return generator(normal_like(target.new_empty(len(target), generator.latent), rng), target)
