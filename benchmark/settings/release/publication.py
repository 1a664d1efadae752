"""The honest side of a release: an owner publishes, and measures what the release is good for."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.measures.base import Measure
from benchmark.settings.release.mechanism import Fitted, Mechanism

BYTES_PER_FLOAT = 4


@dataclass(frozen=True)
class Publication:
    """Publishes a release of the private data.

    Attributes:
        epochs, examiner_epochs, victims, candidates: as the arguments of
            :class:`benchmark.settings.release.setting.ReleaseSetting`.
        measures: protocols of utility.
    """

    epochs: int
    examiner_epochs: int
    victims: int
    candidates: int
    measures: tuple[Measure, ...]

    def publish(self, context: CellContext) -> tuple[Fitted, Outcome]:
        """Return the owner's release, and an outcome with its utility and cost."""
        fitted = Fitted(Mechanism(context))
        release = fitted.release
        size = float(BYTES_PER_FLOAT * (release.x.numel() + release.y.numel()))
        outcome = Outcome(cost={"seconds": fitted.seconds, "bytes_sent": size})
        if release.epsilon is not None:
            outcome.cost |= {"epsilon": release.epsilon, "delta": release.delta or 0.0}
        for measure in self.measures:
            measure(context, fitted, outcome)
        return fitted, outcome
