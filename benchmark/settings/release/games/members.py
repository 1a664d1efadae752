"""Surface of members: membership inference about people whose records are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from benchmark.data.base import Split
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, people, seen_by_all
from benchmark.settings.release.mechanism import Fitted


@dataclass(frozen=True, kw_only=True)
class MemberSurface(ReleasedData):
    """View of membership inference: people, half of whom are in the private data.

    Attributes:
        candidates: (n, ...) plain samples and their labels.
        private: how many records the private data hold, which LiRA's adversary knows.
        members: bool (n,) (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "members": "truth"}

    candidates: Split
    private: int
    members: Bool[Tensor, " n"]


class MembersGame(ReleaseGame):
    """The threat scores members and as many non-members (of ``calibration``)."""

    surface = "members"
    guess = MembershipScores

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> MemberSurface:
        candidates, members = people(context, self.honest.candidates)
        return MemberSurface(
            **seen_by_all(context, fitted, threat),
            candidates=candidates,
            private=len(context.data.owner),
            members=members,
        )

    def score(self, context: CellContext, outcome: Outcome, guess: MembershipScores, surface: MemberSurface) -> None:
        cost = outcome.cost
        budget = (cost["epsilon"], cost["delta"]) if "epsilon" in cost else None
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold, budget)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)
