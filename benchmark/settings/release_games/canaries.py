"""Was this canary put in? An audit of the mechanism in one run.

Steinke, Nasr, Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023.
"""

from __future__ import annotations

import torch

from benchmark.metrics.audit import audit
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, seen_by_all
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import CanarySurface, CanaryThreat, ReleaseThreat
from benchmark.threats.base import MembershipScores


class CanariesGame(Game):
    """A fair coin for each canary puts it among the private data or not, and the mechanism is fitted once on these.

    So a coin adds or removes one record; a claim that is about replacing one is held against the same bound, as if it
    covered that as well. Utility and cost are those of the owner's release, which is without canaries.
    """

    guess = MembershipScores

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> CanarySurface:
        assert isinstance(threat, CanaryThreat)
        rng = stage.rng("canaries")
        canaries = threat.make(stage.data.attacker, stage.data.num_classes, rng)
        members = (torch.rand(len(canaries), generator=rng) < 0.5).to(canaries.y.device)
        release = fitted.mechanism.refit(stage.data.owner.joined(canaries[members]), "canaries")
        seen = seen_by_all(stage, fitted, threat) | {"x": release.x, "y": release.y}
        return CanarySurface(
            **seen,
            canaries=canaries,
            without=(fitted.release.x, fitted.release.y),
            claim=None if release.epsilon is None else (release.epsilon, release.delta or 0.0),
            members=members,
        )

    def score(self, stage: Stage, outcome: Outcome, guess: MembershipScores, surface: CanarySurface) -> None:
        assert isinstance(stage.threat, CanaryThreat)
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold)
        found = audit(guess.scores, surface.members, stage.threat.guesses, surface.claim)
        # the usual bound takes people for independent, which those of one run are not
        risk["epsilon_lower_bound"] = float(found["epsilon_lower_bound"])
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes | found)
