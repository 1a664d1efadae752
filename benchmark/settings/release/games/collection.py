"""What the release as a whole gives away: its use as training data, and copies of private samples in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from benchmark.errors import Refused
from benchmark.metrics.classification import accuracy
from benchmark.metrics.identity import score_copies
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.games.base import Game, ReleasedData, ReleaseThreat, seen_by_all
from benchmark.settings.release.mechanism import Fitted
from benchmark.settings.threat import Guess
from benchmark.training.loop import predict, train


@dataclass(frozen=True, kw_only=True)
class StatisticalSurface(ReleasedData):
    """The collection as a whole: what can one who is not entitled to do with it?

    Attributes:
        inputs: (n, ...) plain inputs of the task, never seen by anybody.
        inputs_y: int64 (n,), their labels (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "inputs_y": "truth"}

    inputs: Tensor
    inputs_y: Tensor


@dataclass(frozen=True, kw_only=True)
class CopySurface(ReleasedData):
    """The release beside the private data and as many people who are not in it: an auditor's view.

    Attributes:
        private, holdout: (k, ...) each (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "private": "truth", "holdout": "truth"}

    private: Tensor
    holdout: Tensor


@dataclass
class Predictions(Guess):
    """Logits (n, classes) for inputs of the task."""

    logits: Tensor


@dataclass
class Copies(Guess):
    """What an auditor measured of each released row.

    Attributes:
        to_private, to_holdout: (m,) distances to the nearest private sample and to the nearest other.
        to_equal_share: (m,) distances to the nearest of as many private samples as there are others.
        radius: below which a row counts as a near copy.
    """

    to_private: Tensor
    to_equal_share: Tensor
    to_holdout: Tensor
    radius: float


class StatisticalGame(Game):
    """Whoever holds the release trains on it and predicts real inputs of the task; private data are the ceiling."""

    guess = Predictions

    def __init__(self, *, epochs: int) -> None:
        self.epochs = epochs

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> StatisticalSurface:
        test = context.data.test
        return StatisticalSurface(**seen_by_all(context, fitted, threat), inputs=test.x, inputs_y=test.y)

    def score(self, context: CellContext, outcome: Outcome, guess: Predictions, surface: StatisticalSurface) -> None:
        test = context.data.test
        reached = accuracy(guess.logits, test.y)
        ceiling = accuracy(predict(trained_on_private(context, self.epochs), test.x), test.y)
        chance = float(test.y.bincount().max()) / len(test.y)
        outcome.risk["accuracy_from_release"] = reached
        outcome.risk["statistical_share"] = max(0.0, (reached - chance) / max(ceiling - chance, 1e-9))
        outcome.diagnostics["accuracy_from_private"] = ceiling


def trained_on_private(context: CellContext, epochs: int) -> nn.Module:
    """The cell's model trained on the private data themselves, shared by all defenses."""

    def build(model: nn.Module) -> nn.Module:
        own = context.data.owner
        return train(model, own.x, own.y, epochs=epochs, rng=context.rng("release.batches"))

    return context.trained((f"private.{epochs}", "dataset", "model", "scale"), build)


class CopyGame(Game):
    """An auditor compares the release with the private data and with as many people who are not in it."""

    guess = Copies

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> CopySurface:
        private, holdout = context.data.owner.x, context.data.calibration.x
        if fitted.release.x.shape[1:] != context.data.shape:
            raise Refused("Released rows have another shape than private samples, so that none of them is a copy.")
        if not len(holdout):
            raise Refused("Copies are judged beside people who are not in the data: raise dataset.sizes.calibration.")
        return CopySurface(**seen_by_all(context, fitted, threat), private=private, holdout=holdout)

    def score(self, context: CellContext, outcome: Outcome, guess: Copies, surface: CopySurface) -> None:
        risk, notes = score_copies(guess.to_private, guess.to_equal_share, guess.to_holdout, guess.radius)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)
