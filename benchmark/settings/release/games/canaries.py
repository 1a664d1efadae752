"""Surface of canaries: an audit of the mechanism in one run, by membership inference about planted records.

Steinke, Nasr, Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from benchmark.data.base import Split
from benchmark.metrics.audit import audit
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.mechanism import Fitted


@dataclass(frozen=True, kw_only=True)
class CanarySurface(ReleasedData):
    """View of an auditor: one release of private data among which some canaries are; ``x`` and ``y`` are its rows.

    Attributes:
        canaries: (k, ...) plain samples and their labels, as the auditor made them.
        without: rows and labels of a release of the same private data without canaries (grant ``refit``).
        claim: (epsilon, delta) of this run by the mechanism's accountant, or None.
        members: bool (k,), as the coins fell (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "without": "refit", "members": "truth"}

    canaries: Split
    without: tuple[Tensor, Tensor]
    claim: tuple[float, float] | None
    members: Bool[Tensor, " k"]


class CanaryThreat(ReleaseThreat):
    """Base of audits with planted records.

    Attributes:
        guesses: for how many canaries it guesses, half of them "in" (the highest scores), half "out"; an even number.
    """

    surface = "canaries"
    guesses: int

    @abstractmethod
    def make(self, own: Split, num_classes: int, rng: Generator) -> Split:
        """Return the canaries, made of the adversary's ``own`` samples and with the same attributes."""


class CanariesGame(ReleaseGame):
    """A fair coin for each canary puts it among the private data or not, and the mechanism is fitted once on these.

    So a coin adds or removes one record; a claim that is about replacing one is held against the same bound, as if it
    covered that as well. Utility and cost are those of the owner's release, which is without canaries.
    """

    surface = "canaries"
    guess = MembershipScores

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> CanarySurface:
        assert isinstance(threat, CanaryThreat)
        rng = context.rng("canaries")
        canaries = threat.make(context.data.attacker, context.data.num_classes, rng)
        members = (torch.rand(len(canaries), generator=rng) < 0.5).to(canaries.y.device)
        release = fitted.mechanism.refit(context.data.owner.joined(canaries[members]), "canaries")
        seen = seen_by_all(context, fitted, threat) | {"x": release.x, "y": release.y}
        return CanarySurface(
            **seen,
            canaries=canaries,
            without=(fitted.release.x, fitted.release.y),
            claim=None if release.epsilon is None else (release.epsilon, release.delta or 0.0),
            members=members,
        )

    def score(self, context: CellContext, outcome: Outcome, guess: MembershipScores, surface: CanarySurface) -> None:
        assert isinstance(context.threat, CanaryThreat)
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold)
        found = audit(guess.scores, surface.members, context.threat.guesses, surface.claim)
        # the usual bound takes people for independent, which those of one run are not
        risk["epsilon_lower_bound"] = float(found["epsilon_lower_bound"])
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes | found)
