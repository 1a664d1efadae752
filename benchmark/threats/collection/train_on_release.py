"""Unauthorised training on the release, which measures the statistical value of the data set that it reveals."""

from __future__ import annotations

import torch

from benchmark.errors import Refused
from benchmark.parameters import Count
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.collection import Predictions, StatisticalSurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 1


class TrainOnRelease(ReleaseThreat):
    """Attack that trains the cell's kind of model on released rows and labels, and predicts plain inputs of the task.

    Args:
        epochs: of its training.
    """

    family = "statistical_inference"
    surface = "collection"
    headline = "statistical_share"
    floor = Floor("statistical_share", 0.8)

    def __init__(self, *, epochs: Count = 30) -> None:
        super().__init__()
        self.epochs = epochs

    def attack(self, surface: StatisticalSurface, rng: torch.Generator) -> Predictions:
        if surface.x.shape[1:] != surface.shape:
            raise Refused("Released rows have another shape than inputs of the task, so no model reads both.")
        model = surface.architecture(shape=surface.shape, num_classes=surface.num_classes).to(surface.x.device)
        return Predictions(predict(train(model, surface.x, surface.y, epochs=self.epochs, rng=rng), surface.inputs))


class GuessClass(ReleaseThreat):
    """Negative control: the most frequent class of the public samples for every input."""

    family = "statistical_inference"
    surface = "collection"
    headline = "statistical_share"
    control = "negative"
    knowledge = frozenset({"public"})

    def attack(self, surface: StatisticalSurface, rng: torch.Generator) -> Predictions:
        counts = surface.public.y.bincount(minlength=surface.num_classes).float()
        return Predictions(counts.expand(len(surface.inputs), -1))


class KnowsClass(ReleaseThreat):
    """Positive control: the true labels."""

    family = "statistical_inference"
    surface = "collection"
    headline = "statistical_share"
    control = "positive"
    knowledge = frozenset({"truth"})

    def attack(self, surface: StatisticalSurface, rng: torch.Generator) -> Predictions:
        return Predictions(torch.nn.functional.one_hot(surface.inputs_y, surface.num_classes).float())
