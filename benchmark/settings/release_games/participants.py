"""Participants as wholes: was somebody's data in, and is a person recognised in a release made of theirs alone?"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, seen_by_all
from benchmark.settings.release_games.identities import IdentitiesGame, known_persons
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import IdentitySurface, ParticipantSurface, ParticipantThreat, ReleaseThreat
from benchmark.threats.base import MembershipScores


class ParticipantsGame(Game):
    """Leave one out: for each participant asked about, the owner's release and one that was fitted without them."""

    guess = MembershipScores

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> ParticipantSurface:
        assert isinstance(threat, ParticipantThreat)
        owner, group, persons, recordings = people_of(stage)
        chosen = torch.randperm(len(persons), generator=stage.rng("participants"))[: threat.participants].tolist()
        releases = []
        for place in chosen:
            without = fitted.mechanism.refit(owner[(group != persons[place]).nonzero().squeeze(1)], "without")
            releases += [fitted.release.x, without.x]
        members = torch.tensor([True, False]).repeat(len(chosen))
        return ParticipantSurface(
            **seen_by_all(stage, fitted, threat),
            asked=torch.tensor(chosen).repeat_interleave(2),
            releases=tuple(releases),
            recordings=recordings,
            persons=len(persons),
            members=members,
        )

    def score(self, stage: Stage, outcome: Outcome, guess: MembershipScores, surface: ParticipantSurface) -> None:
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)


class TeachersGame(IdentitiesGame):
    """The mechanism is fitted on each participant's data alone; rows of these releases are the targets."""

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> IdentitySurface:
        owner, group, persons, recordings = people_of(stage)
        each = max(1, self.victims // len(persons))
        rows, truth = [], []
        for place, person in enumerate(persons):
            own = owner[(group == person).nonzero().squeeze(1)]
            released = fitted.mechanism.refit(own, f"teacher.{place}").x
            pick = torch.randperm(len(released), generator=stage.rng(f"teacher.{place}.rows"))[:each]
            rows.append(released[pick.to(released.device)])
            truth.append(torch.full((len(pick),), place))
        return IdentitySurface(
            **seen_by_all(stage, fitted, threat),
            targets=torch.cat(rows),
            recordings=recordings,
            real=known_persons(stage.data.calibration, persons).x,
            truth=torch.cat(truth).to(owner.x.device),
            persons=len(persons),
        )


def people_of(stage: Stage) -> tuple[Split, Tensor, Tensor, Split]:
    """The owner's records, whose each is, the participants (sorted), and recordings of these from another time.

    Raises:
        Refused: the data do not say who a record is of, or there is nobody to leave out.
    """
    owner = stage.data.owner
    if owner.group is None:
        raise Refused("The data set does not say who a sample is of; choose one with groups, e.g. dataset=uci_har.")
    persons = owner.group.unique()
    recordings = known_persons(stage.data.attacker, persons)
    if len(persons) < 2 or not len(recordings):
        raise Refused("The game needs two participants at least, with recordings of them in the attacker split.")
    return owner, owner.group, persons, recordings
