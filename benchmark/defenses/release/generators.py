"""Base of mechanisms that release the samples of a class-conditional generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from benchmark.data.base import Split
from benchmark.errors import Diverged
from benchmark.models.generators import ConvGenerator, DenseGenerator, Generator
from benchmark.parameters import Count, Positive, Rate
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.training.sanitise import most_steps


def generator_for(shape: tuple[int, ...], num_classes: int, latent: int) -> Generator:
    """Return the convolutional generator of Cao et al. for 28x28 and 32x32 images, else the dense one."""
    if len(shape) == 3 and shape[1] == shape[2] and shape[1] in (28, 32):
        return ConvGenerator(shape, num_classes, latent)
    return DenseGenerator(shape, num_classes, latent)


class GeneratorDefense(ReleaseMechanism):
    """Base of mechanisms that release samples of a generator, and the generator with them.

    Class attributes:
        mechanism: name that :meth:`facts` publishes.

    Args:
        batch_size: of a step.
        steps: of training, at most.
        target_epsilon: training stops before the accountant exceeds it; None: never.
        delta: of the guarantee.
        lr: of Adam.
        hidden: widths of the layers of the networks that judge samples.
        latent: dimensions of the generator's noise.
        rows: released samples; None: as many as there are private ones.
    """

    releases = frozenset({"synthetic", "generator"})
    mechanism: str
    generator: Generator | None = None

    def __init__(
        self,
        *,
        batch_size: Count,
        steps: Count,
        target_epsilon: Positive | None,
        delta: Rate,
        lr: Positive,
        hidden: Sequence[Count],
        latent: Count,
        rows: Count | None,
    ) -> None:
        self.batch_size, self.steps, self.target_epsilon, self.delta = batch_size, steps, target_epsilon, delta
        self.lr, self.hidden, self.latent, self.rows = lr, list(hidden), latent, rows

    def facts(self) -> dict[str, Any]:
        return {"mechanism": self.mechanism, "synthetic": True}

    def models(self) -> Mapping[str, nn.Module]:
        return {} if self.generator is None else {"generator": self.generator}

    def untrained(self, private: Split) -> Generator:
        """Return a new generator for the shape and the classes of ``private``, kept as :attr:`generator`."""
        num_classes = int(private.y.max()) + 1 if self.context is None else self.context.num_classes
        self.generator = generator_for(tuple(private.x.shape[1:]), num_classes, self.latent).to(private.x.device)
        return self.generator

    def affordable_steps(self, spent: Callable[[int], float | None]) -> int:
        """Return the most steps whose epsilon ``spent(steps)`` the target allows."""
        return most_steps(spent, epsilon=self.target_epsilon, limit=self.steps)

    def sampled(self, generator: Generator, private: Split, rng: torch.Generator, epsilon: float | None) -> Release:
        """Return samples of uniform labels, with the budget that was spent.

        Raises:
            Diverged: the generator gives NaN or infinity.
        """
        y = generator.labels(len(private) if self.rows is None else self.rows, rng)
        x = generator.sample(y, rng)
        if not torch.isfinite(x).all():
            raise Diverged(f"training of {type(self).__name__}'s generator gave values that are no numbers.")
        return Release(x, y, epsilon=epsilon, delta=None if epsilon is None else self.delta)
