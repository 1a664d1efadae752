"""What a shift of the world may look at and answers with, and what a detector may use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.seeds import generator
from benchmark.threats.base import Guess, Surface, Threat


@dataclass(frozen=True)
class WorldSurface(Surface):
    """The world in which a classifier is deployed.

    Attributes:
        x: (n, ...) unseen inputs of the classifier's own population, or of the shifted one for a threat that asks for
            it; y: int64 (n,) their labels, which no detector sees.
        usual: (m, ...) further unseen inputs of the classifier's own population.
        model: the classifier (grant ``model``).
        published: the detector's facts, by ``Defense.facts`` (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"model": "model", "published": "mechanism"}

    x: Tensor
    y: Tensor
    usual: Tensor
    model: nn.Module
    published: Mapping[str, Any]


@dataclass
class ShiftedInputs(Guess):
    """The population that batches are drawn from once the world has shifted.

    Attributes:
        x: (m, ...) inputs; origin: int64 (m,), the row of the surface that each of them comes from.
    """

    x: Tensor
    origin: Tensor


class ShiftThreat(Threat):
    """The world changes; nobody need mean harm.

    Class attributes:
        population: ``own``, the classifier's own population, altered; or ``shifted``, the one that the data set brings.

    Args:
        share: of a batch, in (0, 1], that comes from the shifted population; the rest are usual inputs.
    """

    family = "shift"
    setting = "deployment"
    surface = "batches"
    headline = "missed"
    population: ClassVar[str] = "own"

    def __init__(self, *, share: float = 1.0, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.share = share


@dataclass
class Watch:
    """What a detector has: the classifier and how it was made, and data of its population; never a batch's labels.

    Attributes:
        model: the deployed classifier; its parameters take no gradient.
        train: what it was trained on; validation: held-out labelled samples of the same population.
        num_classes: of the task.
        seed: of this group of batches, see :meth:`rng`.
        member: ``member(i)`` gives a classifier trained like the deployed one with other randomness, i = 1, 2, ...
        fresh: ``fresh(num_classes)`` gives an untrained model of the deployed one's architecture.
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
        """The randomness with which batch ``index`` is judged."""
        return generator(self.seed, f"batch{index}")

    def remember(self, name: str, build: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """``build()``, perhaps from an earlier cell.

        ``name`` says all that the result depends on besides the data, the classifier and the group of batches at hand.
        """

        def timed() -> dict[str, Tensor]:
            started = time.perf_counter()
            return {**build(), "seconds": torch.tensor(time.perf_counter() - started, dtype=torch.float64)}

        started = time.perf_counter()
        artifact = dict(self.recall(name, timed))
        self.saved += max(0.0, artifact.pop("seconds").item() - (time.perf_counter() - started))
        return artifact
