"""Surface of participants: membership inference about all data of a participant at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.games.identities import known_persons
from benchmark.settings.release.mechanism import Fitted


@dataclass(frozen=True, kw_only=True)
class ParticipantSurface(ReleasedData):
    """View of membership inference about participants: pairs of a participant and a release.

    Attributes:
        asked: int64 (n,), participants, 0 .. persons - 1. releases: n tensors (m, ...) of released rows.
        recordings: samples of the participants from another time, ``group`` in 0 .. persons - 1 (grant ``recordings``).
        persons: how many participants there are.
        members: bool (n,) (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        **ReleasedData.granted_by,
        "recordings": "recordings",
        "members": "truth",
    }

    asked: Int[Tensor, " n"]
    releases: tuple[Float[Tensor, ...], ...]
    recordings: Split
    persons: int
    members: Bool[Tensor, " n"]


class ParticipantThreat(ReleaseThreat):
    """Base of membership inference about all data of a participant.

    Attributes:
        participants: how many it asks about, each one in a release with and in one without them.
    """

    surface = "participants"
    participants: int


class ParticipantsGame(ReleaseGame):
    """Leave one out: for each participant asked about, the owner's release and one that was fitted without them."""

    surface = "participants"
    guess = MembershipScores

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> ParticipantSurface:
        assert isinstance(threat, ParticipantThreat)
        owner, group, persons, recordings = people_of(context)
        chosen = torch.randperm(len(persons), generator=context.rng("participants"))[: threat.participants].tolist()
        releases = []
        for place in chosen:
            without = fitted.mechanism.refit(owner[(group != persons[place]).nonzero().squeeze(1)], "without")
            releases += [fitted.release.x, without.x]
        members = torch.tensor([True, False]).repeat(len(chosen))
        return ParticipantSurface(
            **seen_by_all(context, fitted, threat),
            asked=torch.tensor(chosen).repeat_interleave(2),
            releases=tuple(releases),
            recordings=recordings,
            persons=len(persons),
            members=members,
        )

    def score(
        self, context: CellContext, outcome: Outcome, guess: MembershipScores, surface: ParticipantSurface
    ) -> None:
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)


def people_of(context: CellContext) -> tuple[Split, Tensor, Tensor, Split]:
    """Return the owner's records, whose each is, the participants (sorted), and recordings of these from another time.

    Raises:
        Refused: the data do not say who a record is of, or there is nobody to leave out.
    """
    owner = context.data.owner
    if owner.group is None:
        raise Refused("The data set does not say who a sample is of; choose one with groups, e.g. dataset=uci_har.")
    persons = owner.group.unique()
    recordings = known_persons(context.data.attacker, persons)
    if len(persons) < 2 or not len(recordings):
        raise Refused("The game needs two participants at least, with recordings of them in the attacker split.")
    return owner, owner.group, persons, recordings
