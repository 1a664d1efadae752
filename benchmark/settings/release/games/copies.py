"""Surface of copies: an auditor looks for copies of private samples among the released rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from benchmark.errors import Refused
from benchmark.metrics.identity import score_copies
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.mechanism import Fitted
from benchmark.settings.threat import Guess


@dataclass(frozen=True, kw_only=True)
class CopySurface(ReleasedData):
    """View of an auditor: the release, the private data, and as many people who are not in it.

    Attributes:
        private, holdout: (k, ...) each (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "private": "truth", "holdout": "truth"}

    private: Float[Tensor, " k *sample"]
    holdout: Float[Tensor, " others *sample"]


@dataclass
class Copies(Guess):
    """Distances of each released row to private and to other samples.

    Attributes:
        to_private, to_holdout: (m,) distances to the nearest private sample and to the nearest other.
        to_equal_share: (m,) distances to the nearest of as many private samples as there are others.
        radius: below which a row counts as a near copy.
    """

    to_private: Float[Tensor, " m"]
    to_equal_share: Float[Tensor, " m"]
    to_holdout: Float[Tensor, " m"]
    radius: float


class CopiesGame(ReleaseGame):
    """An auditor compares the release with the private data and with as many people who are not in it."""

    surface = "copies"
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
