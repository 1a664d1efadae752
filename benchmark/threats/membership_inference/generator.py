"""Membership inference from how well a released generator can reproduce the candidate."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import Refused
from benchmark.models.generators import Generator
from benchmark.parameters import Count, NonNegative, Positive
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface

VERSION = 2


class GeneratorInversion(ReleaseThreat):
    """White-box GAN-Leaks attack: ``-min_z |x - G(z, y)|^2 - prior * |z - 1/2|^2``.

    Chen, Yu, Zhang, Fritz, *GAN-Leaks: A Taxonomy of Membership Inference Attacks against Generative Models*, CCS 2020.
    All candidates and restarts descend as one batch. A generator normalises by batch statistics, so its running
    statistics are first set from generated samples, which the adversary can choose. It has no floor: without a defense
    there is no generator to invert; it must succeed against the same mechanism without privacy.

    Args:
        restarts: of the descent, the best counts.
        steps, lr: of Adam on the noise.
        prior: weight of the distance of the noise from its mean.
    """

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    needs = {"defense.generator": "yes"}
    knowledge = frozenset({"models"})

    def __init__(
        self, *, restarts: Count = 10, steps: Count = 200, lr: Positive = 0.05, prior: NonNegative = 0.01
    ) -> None:
        super().__init__()
        self.adaptive = True  # it attacks this mechanism only
        self.restarts, self.steps, self.lr, self.prior = restarts, steps, lr, prior

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        generator = surface.models.get("generator")
        if not isinstance(generator, Generator):
            raise Refused("This threat inverts a released generator, and the defense hands out none.")
        fix_batch_norm(generator, rng)
        candidates = surface.candidates
        x, y = (
            (2 * candidates.x - 1).repeat(self.restarts, *[1] * (candidates.x.ndim - 1)),
            candidates.y.repeat(self.restarts),
        )
        z = generator.noise(len(y), rng).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=self.lr)
        for _ in range(self.steps):
            optimizer.zero_grad(set_to_none=True)
            self._distance(generator, z, x, y).sum().backward()
            optimizer.step()
        with torch.no_grad():
            reached = self._distance(generator, z, x, y).view(self.restarts, -1)
        return MembershipScores(-reached.amin(dim=0))

    def _distance(self, generator: Generator, z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        distance = (generator(z, y) - x).flatten(1).square().sum(dim=1)
        return distance + self.prior * (z - 0.5).square().sum(dim=1)


@torch.no_grad()
def fix_batch_norm(generator: Generator, rng: torch.Generator, count: int = 2000) -> None:
    """Set running statistics from generated samples and switch to them, so that samples do not interact."""
    for module in generator.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all that is seen
    generator.train()
    y = torch.randint(generator.num_classes, (count,), generator=rng).to(generator.embedding.weight.device)
    generator.sample(y, rng)
    generator.eval().requires_grad_(False)
