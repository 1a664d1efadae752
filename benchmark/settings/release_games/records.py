"""Was this one record in? The per-record game: releases with and without each of a few outliers.

Stadler, Oprisanu, Troncoso, *Synthetic Data: Anonymisation Groundhog Day*, USENIX Security 2022.
"""

from __future__ import annotations

import torch

from benchmark.errors import Refused
from benchmark.metrics.classification import auc
from benchmark.metrics.distances import exact_cdist
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, seen_by_all
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import RecordSurface, RecordThreat, ReleaseThreat
from benchmark.threats.base import MembershipScores

SMALLEST = 8


class RecordsGame(Game):
    """The mechanism is fitted on random halves of the private data, each time with an outlier or with another record.

    Outliers are the private records farthest from their nearest neighbour, for averages hide them.
    """

    guess = MembershipScores

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> RecordSurface:
        assert isinstance(threat, RecordThreat)
        owner, size = stage.data.owner, min(len(stage.data.owner), len(stage.data.attacker)) // 2
        if size < SMALLEST:
            raise Refused(
                f"Releases of half of the data need {2 * SMALLEST} samples of the owner and of the attacker at least: "
                "raise dataset.sizes."
            )
        distances = exact_cdist(owner.x.flatten(1), owner.x.flatten(1)).fill_diagonal_(torch.inf)
        targets = distances.min(dim=1).values.topk(min(threat.records, len(owner) - size)).indices
        rng, asked, releases = stage.rng("records"), [], []
        for number, target in enumerate(targets):
            for trial in range(threat.trials):
                order = torch.randperm(len(owner), generator=rng).to(targets.device)
                rows = order[order != target][:size]
                for name, chosen in (("with", torch.cat([rows[:-1], target.view(1)])), ("without", rows)):
                    releases.append(fitted.mechanism.refit(owner[chosen], f"record.{number}.{trial}.{name}").x)
                    asked.append(number)
        return RecordSurface(
            **seen_by_all(stage, fitted, threat),
            records=owner[targets],
            asked=torch.tensor(asked),
            releases=tuple(releases),
            size=size,
            members=torch.tensor([True, False]).repeat(len(asked) // 2),
        )

    def score(self, stage: Stage, outcome: Outcome, guess: MembershipScores, surface: RecordSurface) -> None:
        risk, notes = score_membership(guess.scores, surface.members, guess.threshold)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)
        ours = [surface.asked == number for number in surface.asked.unique()]
        outcome.diagnostics["worst_record_auc"] = max(auc(guess.scores[rows], surface.members[rows]) for rows in ours)
