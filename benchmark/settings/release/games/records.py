"""Surface of records: membership inference about single outliers, from releases with and without each of them.

Stadler, Oprisanu, Troncoso, *Synthetic Data: Anonymisation Groundhog Day*, USENIX Security 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.classification import auc
from benchmark.metrics.distances import exact_cdist
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.mechanism import Fitted


@dataclass(frozen=True, kw_only=True)
class RecordSurface(ReleasedData):
    """View of membership inference about records: pairs of a record and a release.

    Attributes:
        records: (k, ...) plain samples, outliers, and their labels.
        asked: int64 (n,), which record; releases: n tensors (m, ...) of released rows.
        size: of the private data behind each of these releases.
        members: bool (n,) (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "members": "truth"}

    records: Split
    asked: Int[Tensor, " n"]
    releases: tuple[Float[Tensor, ...], ...]
    size: int
    members: Bool[Tensor, " n"]


class RecordThreat(ReleaseThreat):
    """Base of membership inference about single records.

    Attributes:
        records: how many, the greatest outliers; trials: releases with each of them, and as many without.
    """

    surface = "records"
    records: int
    trials: int


SMALLEST = 8


class RecordsGame(ReleaseGame):
    """The mechanism is fitted on random halves of the private data, each time with an outlier or with another record.

    Outliers are the private records farthest from their nearest neighbour, for averages hide them.
    """

    surface = "records"
    guess = MembershipScores

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> RecordSurface:
        assert isinstance(threat, RecordThreat)
        owner, size = context.data.owner, min(len(context.data.owner), len(context.data.attacker)) // 2
        if size < SMALLEST:
            raise Refused(
                f"Releases of half of the data need {2 * SMALLEST} samples of the owner and of the attacker at least: "
                "raise dataset.sizes."
            )
        distances = exact_cdist(owner.x.flatten(1), owner.x.flatten(1)).fill_diagonal_(torch.inf)
        targets = distances.min(dim=1).values.topk(min(threat.records, len(owner) - size)).indices
        rng, asked, releases = context.rng("records"), [], []
        for number, target in enumerate(targets):
            for trial in range(threat.trials):
                order = torch.randperm(len(owner), generator=rng).to(targets.device)
                rows = order[order != target][:size]
                for name, chosen in (("with", torch.cat([rows[:-1], target.view(1)])), ("without", rows)):
                    releases.append(fitted.mechanism.refit(owner[chosen], f"record.{number}.{trial}.{name}").x)
                    asked.append(number)
        return RecordSurface(
            **seen_by_all(context, fitted, threat),
            records=owner[targets],
            asked=torch.tensor(asked),
            releases=tuple(releases),
            size=size,
            members=torch.tensor([True, False]).repeat(len(asked) // 2),
        )

    def score(self, context: CellContext, outcome: Outcome, guess: MembershipScores, surface: RecordSurface) -> None:
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)
        ours = [surface.asked == number for number in surface.asked.unique()]
        outcome.diagnostics["worst_record_auc"] = max(auc(guess.scores[rows], surface.members[rows]) for rows in ours)
