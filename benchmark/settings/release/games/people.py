"""Surface of people: infer the sensitive attribute of members and of non-members whose records are known."""

from __future__ import annotations

from benchmark.metrics.attributes import leak, score_attributes
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.games.attributes import AttributeGuess, AttributeSurface, attribute_of, labelled
from benchmark.settings.release.games.base import ReleaseGame, ReleaseThreat, people, seen_by_all
from benchmark.settings.release.mechanism import Fitted


class PeopleGame(ReleaseGame):
    """Members and non-members, all known but for the attribute: what the release says of members only is a leak."""

    surface = "people"
    guess = AttributeGuess

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> AttributeSurface:
        asked, _ = people(context, self.honest.candidates)
        truth = attribute_of(asked)
        return AttributeSurface(
            **seen_by_all(context, fitted, threat),
            labelled=labelled(context, fitted),
            targets=asked.x,
            targets_y=asked.y,
            truth=truth,
            groups=int(truth.max()) + 1,
        )

    def score(self, context: CellContext, outcome: Outcome, guess: AttributeGuess, surface: AttributeSurface) -> None:
        risk, notes = score_attributes(guess.labels, guess.scores, surface.truth)
        outcome.risk["attribute_leak"] = leak(guess.labels, surface.truth, people(context, self.honest.candidates)[1])
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)
