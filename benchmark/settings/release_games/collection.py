"""What the release as a whole gives away: its use as training data, and copies of private samples in it."""

from __future__ import annotations

from torch import nn

from benchmark.errors import Refused
from benchmark.metrics.classification import accuracy
from benchmark.metrics.identity import score_copies
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, seen_by_all
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import CopySurface, ReleaseThreat, StatisticalSurface
from benchmark.threats.base import Copies, Predictions
from benchmark.training.loop import predict, train


class StatisticalGame(Game):
    """Whoever holds the release trains on it and predicts real inputs of the task; private data are the ceiling."""

    guess = Predictions

    def __init__(self, *, epochs: int) -> None:
        self.epochs = epochs

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> StatisticalSurface:
        test = stage.data.test
        return StatisticalSurface(**seen_by_all(stage, fitted, threat), inputs=test.x, inputs_y=test.y)

    def score(self, stage: Stage, outcome: Outcome, guess: Predictions, surface: StatisticalSurface) -> None:
        test = stage.data.test
        reached = accuracy(guess.logits, test.y)
        ceiling = accuracy(predict(trained_on_private(stage, self.epochs), test.x), test.y)
        chance = float(test.y.bincount().max()) / len(test.y)
        outcome.risk["accuracy_from_release"] = reached
        outcome.risk["statistical_share"] = max(0.0, (reached - chance) / max(ceiling - chance, 1e-9))
        outcome.diagnostics["accuracy_from_private"] = ceiling


def trained_on_private(stage: Stage, epochs: int) -> nn.Module:
    """The cell's model trained on the private data themselves, shared by all defenses."""

    def build(model: nn.Module) -> nn.Module:
        own = stage.data.owner
        return train(model, own.x, own.y, epochs=epochs, rng=stage.rng("release.batches"))

    return stage.trained((f"private.{epochs}", "dataset", "model", "scale"), build)


class CopyGame(Game):
    """An auditor compares the release with the private data and with as many people who are not in it."""

    guess = Copies

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> CopySurface:
        private, holdout = stage.data.owner.x, stage.data.calibration.x
        if fitted.release.x.shape[1:] != stage.data.shape:
            raise Refused("Released rows have another shape than private samples, so that none of them is a copy.")
        if not len(holdout):
            raise Refused("Copies are judged beside people who are not in the data: raise dataset.sizes.calibration.")
        return CopySurface(**seen_by_all(stage, fitted, threat), private=private, holdout=holdout)

    def score(self, stage: Stage, outcome: Outcome, guess: Copies, surface: CopySurface) -> None:
        risk, notes = score_copies(guess.to_private, guess.to_equal_share, guess.to_holdout, guess.radius)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)
