"""Who is in the private data?"""

from __future__ import annotations

from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, people, seen_by_all
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import MemberSurface, ReleaseThreat
from benchmark.threats.base import MembershipScores


class MembershipGame(Game):
    """Args: candidates: members asked about, and as many non-members (from ``calibration``)."""

    guess = MembershipScores

    def __init__(self, *, candidates: int) -> None:
        self.candidates = candidates

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> MemberSurface:
        candidates, members = people(stage, self.candidates)
        return MemberSurface(**seen_by_all(stage, fitted, threat), candidates=candidates, members=members)

    def score(self, stage: Stage, outcome: Outcome, guess: MembershipScores, surface: MemberSurface) -> None:
        cost = outcome.cost
        budget = (cost["epsilon"], cost["delta"]) if "epsilon" in cost else None
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold, budget)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)
