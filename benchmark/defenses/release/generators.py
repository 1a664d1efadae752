"""Class-conditional generators of synthetic data: noise and a label in, a sample in [0, 1] out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from benchmark.data.base import Split
from benchmark.errors import Diverged
from benchmark.models.generators import ConvGenerator, DenseGenerator, Generator
from benchmark.settings.release.defense import Release, ReleaseMechanism


def generator_for(shape: tuple[int, ...], num_classes: int, latent: int) -> Generator:
    """The paper's convolutional generator for 28x28 and 32x32 images, else the dense one."""
    if len(shape) == 3 and shape[1] == shape[2] and shape[1] in (28, 32):
        return ConvGenerator(shape, num_classes, latent)
    return DenseGenerator(shape, num_classes, latent)


class GeneratorDefense(ReleaseMechanism):
    """Base of mechanisms that release samples of a generator, and the generator with them."""

    releases = frozenset({"synthetic", "generator"})
    latent: int
    generator: Generator | None = None

    def models(self) -> Mapping[str, nn.Module]:
        return {} if self.generator is None else {"generator": self.generator}

    def untrained(self, private: Split) -> Generator:
        """A new generator for the shape and the classes of ``private``, kept as :attr:`generator`."""
        num_classes = int(private.y.max()) + 1 if self.context is None else self.context.num_classes
        self.generator = generator_for(tuple(private.x.shape[1:]), num_classes, self.latent).to(private.x.device)
        return self.generator

    def released(
        self,
        generator: Generator,
        count: int,
        rows: int | None,
        rng: torch.Generator,
        epsilon: float | None,
        delta: float,
    ) -> Release:
        """``rows`` samples (or ``count``, where that is None) of uniform labels, with the budget that was spent."""
        y = generator.labels(count if rows is None else rows, rng)
        x = generator.sample(y, rng)
        if not torch.isfinite(x).all():
            raise Diverged(f"training of {type(self).__name__}'s generator gave values that are no numbers.")
        return Release(x, y, epsilon=epsilon, delta=None if epsilon is None else delta)
