"""Whose sensitive attribute is what? Of held-out people who were mapped, and of people in and outside the data."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.attributes import leak, score_attributes
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, people, seen_by_all
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import AttributeSurface, ReleaseThreat
from benchmark.threats.base import AttributeGuess


class AttributesGame(Game):
    """The attackers train on released records of known attribute and guess that of mapped people they never saw."""

    guess = AttributeGuess

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> AttributeSurface:
        mapped = fitted.encoded["test"]
        truth = attribute_of(stage.data.test)
        return AttributeSurface(
            **seen_by_all(stage, fitted, threat),
            labelled=labelled(stage, fitted),
            targets=mapped.x,
            targets_y=mapped.y,
            truth=truth,
            groups=int(truth.max()) + 1,
        )

    def score(self, stage: Stage, outcome: Outcome, guess: AttributeGuess, surface: AttributeSurface) -> None:
        risk, notes = score_attributes(guess.labels, guess.scores, surface.truth)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)


class PeopleGame(Game):
    """Members and non-members, all known but for the attribute: what the release says of members only is a leak."""

    guess = AttributeGuess

    def __init__(self, *, candidates: int) -> None:
        self.candidates = candidates

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> AttributeSurface:
        asked, _ = people(stage, self.candidates)
        truth = attribute_of(asked)
        return AttributeSurface(
            **seen_by_all(stage, fitted, threat),
            labelled=labelled(stage, fitted),
            targets=asked.x,
            targets_y=asked.y,
            truth=truth,
            groups=int(truth.max()) + 1,
        )

    def score(self, stage: Stage, outcome: Outcome, guess: AttributeGuess, surface: AttributeSurface) -> None:
        risk, notes = score_attributes(guess.labels, guess.scores, surface.truth)
        outcome.risk["attribute_leak"] = leak(guess.labels, surface.truth, people(stage, self.candidates)[1])
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)


def attribute_of(split: Split) -> Tensor:
    if split.sensitive is None:
        raise Refused("The data set has no sensitive attribute to infer; choose one that has, e.g. dataset=lipton.")
    return split.sensitive


def labelled(stage: Stage, fitted: Fitted) -> Split:
    """Released records with their attribute: published with synthetic rows, or known of the people behind real ones."""
    release = fitted.release
    rows = Split(release.x, release.y if release.y.ndim == 1 else release.y.argmax(dim=1))
    if release.sensitive is not None:
        return replace(rows, sensitive=release.sensitive)
    if release.source is None:
        raise Refused("The release is synthetic and carries no sensitive attribute, so nothing links it to one.")
    return replace(rows, sensitive=attribute_of(stage.data.owner)[release.source.to(release.x.device)])
