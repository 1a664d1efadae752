"""Surface of a collection: use the release as training data without being entitled to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from benchmark.metrics.classification import accuracy
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.classifiers import trained_on_private
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.mechanism import Fitted
from benchmark.settings.threat import Guess
from benchmark.training.loop import predict


@dataclass(frozen=True, kw_only=True)
class StatisticalSurface(ReleasedData):
    """View of an adversary who trains on the release, for which it is not entitled.

    Attributes:
        inputs: (n, ...) plain inputs of the task, never seen by anybody.
        inputs_y: int64 (n,), their labels (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "inputs_y": "truth"}

    inputs: Float[Tensor, " n *sample"]
    inputs_y: Int[Tensor, " n"]


@dataclass
class Predictions(Guess):
    """Logits (n, classes) for inputs of the task."""

    logits: Float[Tensor, "n classes"]


class CollectionGame(ReleaseGame):
    """The threat trains on the release and predicts real inputs; training on the private data is the ceiling."""

    surface = "collection"
    guess = Predictions

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> StatisticalSurface:
        test = context.data.test
        return StatisticalSurface(**seen_by_all(context, fitted, threat), inputs=test.x, inputs_y=test.y)

    def score(self, context: CellContext, outcome: Outcome, guess: Predictions, surface: StatisticalSurface) -> None:
        test = context.data.test
        reached = accuracy(guess.logits, test.y)
        ceiling = accuracy(predict(trained_on_private(context, self.honest.epochs), test.x), test.y)
        chance = float(test.y.bincount().max()) / len(test.y)
        outcome.risk["accuracy_from_release"] = reached
        outcome.risk["statistical_share"] = max(0.0, (reached - chance) / max(ceiling - chance, 1e-9))
        outcome.diagnostics["accuracy_from_private"] = ceiling
