"""Deployment defenses: their hooks, and the context of a shift detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmark import clock
from benchmark.data.base import Split
from benchmark.seeds import generator
from benchmark.settings.defense import Defense, hook


@dataclass
class DetectorContext:
    """Context of a detector: the classifier, its training, and data of its population; never a batch's labels.

    Attributes:
        model: the deployed classifier; its parameters take no gradient.
        train: what it was trained on; validation: held-out labelled samples of the same population.
        num_classes: of the task.
        seed: of this group of batches, see :meth:`rng`.
        member: ``member(i)`` returns a classifier trained like the deployed one with other randomness, i = 1, 2, ...
        fresh: ``fresh(num_classes)`` returns an untrained model of the deployed one's architecture.
        learn: ``learn(module, x, y, rng)`` trains a model as the deployed one was trained.
        recall: the store behind :meth:`remember`.
        saved: seconds of work that :meth:`remember` took from earlier cells.
    """

    model: nn.Module
    train: Split
    validation: Split
    num_classes: int
    seed: int
    member: Callable[[int], nn.Module]
    fresh: Callable[[int], nn.Module]
    learn: Callable[[nn.Module, Tensor, Tensor, torch.Generator], nn.Module]
    recall: Callable[[str, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
    saved: float = 0.0

    def rng(self, index: int) -> torch.Generator:
        """Return the generator with which batch ``index`` is judged."""
        return generator(self.seed, f"batch{index}")

    def remember(self, name: str, build: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return ``build()``, perhaps from an earlier cell.

        Args:
            name: of all that the result depends on besides the data, the classifier and the present group of batches.
        """

        def timed() -> dict[str, Tensor]:
            started = clock.now()
            return {**build(), "seconds": torch.tensor(clock.now() - started, dtype=torch.float64)}

        started = clock.now()
        artifact = dict(self.recall(name, timed))
        self.saved += max(0.0, artifact.pop("seconds").item() - (clock.now() - started))
        return artifact


class DeploymentDefense(Defense):
    """Base of defenses of a deployed classifier: of its training, and screens of its inputs."""

    @hook()
    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        """Train the classifier that is deployed.

        Args:
            fresh: returns a newly initialised model (the same weights at every call).
            train: ``train(module, x, y, loss=...)``, the suite's loop with this cell's epochs and seed.
        """
        return train(fresh(), data.x, data.y)

    @hook()
    def screen_inputs(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return the suspicion that each input is not from the training distribution; higher is worse."""
        return torch.zeros(len(x))

    @hook()
    def screen_batches(self, batches: Float[Tensor, "q n ..."], context: DetectorContext) -> Float[Tensor, " q *each"]:
        """Return the suspicion that each batch is not from the training distribution; higher is worse.

        Every batch is judged as if it were the only one. Suspicions are compared with those of usual batches, so they
        need no scale; see ``docs/interfaces.md``.

        Args:
            batches: (q, n, ...), q batches of n inputs.

        Returns:
            (q,) suspicions; or (q, n), one number for each input, when a batch's numbers are to be compared as a sample
            with those of the usual batches (two-sample Kolmogorov-Smirnov).
        """
        return torch.zeros(len(batches))
