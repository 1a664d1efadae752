"""Surface of identities: infer whose the released rows are, among known participants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.classification import accuracy
from benchmark.metrics.identity import claims
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.games.release import chosen_rows
from benchmark.settings.release.mechanism import Fitted
from benchmark.settings.threat import Guess


@dataclass(frozen=True, kw_only=True)
class IdentitySurface(ReleasedData):
    """View of identity inference: released rows of unknown participants.

    Attributes:
        targets: (n, ...) released rows.
        recordings: samples of the participants from another time, ``group`` in 0 .. persons - 1 (grant ``recordings``).
        real: (k, ...) real samples of the participants from yet another time, as a yardstick for confidence.
        truth: int64 (n,), the participant behind each target; empty for synthetic data (grant ``truth``).
        persons: how many participants there are.
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        **ReleasedData.granted_by,
        "recordings": "recordings",
        "truth": "truth",
    }

    targets: Float[Tensor, " n *released"]
    recordings: Split
    real: Float[Tensor, " k *sample"]
    truth: Int[Tensor, " _"]
    persons: int


@dataclass
class IdentityGuess(Guess):
    """Participant behind each row, as probabilities.

    Attributes:
        probabilities: (n, persons) for the rows under attack; on_real: (k, persons) for the yardstick of real samples.
    """

    probabilities: Float[Tensor, "n persons"]
    on_real: Float[Tensor, "k persons"]


class IdentitiesGame(ReleaseGame):
    """The adversary holds recordings of the participants from another time (their part of ``attacker``)."""

    surface = "identities"
    guess = IdentityGuess

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> IdentitySurface:
        owner, release = context.data.owner, fitted.release
        if owner.group is None:
            raise Refused("The data set does not say who a sample is of; choose one with groups, e.g. dataset=uci_har.")
        persons = owner.group.unique()
        recordings, held_out = (
            known_persons(split, persons) for split in (context.data.attacker, context.data.calibration)
        )
        if not len(recordings) or not len(held_out):
            raise Refused(
                "Identity inference needs recordings of the same people in the attacker and calibration splits."
            )
        rows, _ = chosen_rows(context, len(release.x), min(self.honest.victims, len(release.x)), 0)
        truth = torch.empty(0, dtype=torch.int64)
        if release.source is not None:
            truth = torch.searchsorted(persons, owner.group[release.source.to(persons.device)][rows])
        return IdentitySurface(
            **seen_by_all(context, fitted, threat),
            targets=release.x[rows],
            recordings=recordings,
            real=held_out.x,
            truth=truth,
            persons=len(persons),
        )

    def score(self, context: CellContext, outcome: Outcome, guess: IdentityGuess, surface: IdentitySurface) -> None:
        for name, value in claims(guess.probabilities).items():
            (outcome.diagnostics if name == "identity_entropy" else outcome.risk)[name] = value
        outcome.diagnostics.update({f"real_{name}": value for name, value in claims(guess.on_real).items()})
        persons = context.data.owner.group.unique()  # type: ignore[union-attr]
        real = known_persons(context.data.calibration, persons).group
        assert real is not None
        outcome.diagnostics["real_identity_accuracy"] = accuracy(guess.on_real.to(real.device), real)
        outcome.diagnostics["persons"] = surface.persons
        if len(surface.truth):
            outcome.risk["identity_accuracy"] = accuracy(guess.probabilities, surface.truth)


def known_persons(split: Split, persons: Tensor) -> Split:
    """Return the samples of ``persons`` (sorted), ``group`` renumbered 0, 1, ..."""
    if split.group is None:
        return split[:0]
    place = torch.searchsorted(persons, split.group).clamp_max(len(persons) - 1)
    rows = (persons[place] == split.group).nonzero().squeeze(1)
    return Split(split.x[rows], split.y[rows], group=place[rows])
