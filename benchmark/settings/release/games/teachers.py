"""Surface of teachers: recognise a participant in a release that was made of this participant's data alone."""

from __future__ import annotations

import torch

from benchmark.settings.base import CellContext
from benchmark.settings.release.games.base import ReleaseThreat, seen_by_all
from benchmark.settings.release.games.identities import IdentitiesGame, IdentitySurface, known_persons
from benchmark.settings.release.games.participants import people_of
from benchmark.settings.release.mechanism import Fitted


class TeachersGame(IdentitiesGame):
    """The mechanism is fitted on each participant's data alone; rows of these releases are the targets."""

    surface = "teachers"

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> IdentitySurface:
        owner, group, persons, recordings = people_of(context)
        each = max(1, self.honest.victims // len(persons))
        rows, truth = [], []
        for place, person in enumerate(persons):
            own = owner[(group == person).nonzero().squeeze(1)]
            released = fitted.mechanism.refit(own, f"teacher.{place}").x
            pick = torch.randperm(len(released), generator=context.rng(f"teacher.{place}.rows"))[:each]
            rows.append(released[pick.to(released.device)])
            truth.append(torch.full((len(pick),), place))
        return IdentitySurface(
            **seen_by_all(context, fitted, threat),
            targets=torch.cat(rows),
            recordings=recordings,
            real=known_persons(context.data.calibration, persons).x,
            truth=torch.cat(truth).to(owner.x.device),
            persons=len(persons),
        )
