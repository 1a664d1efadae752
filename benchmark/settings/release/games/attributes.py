"""Surface of attributes: infer the sensitive attribute of held-out people from their mapped records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.attributes import score_attributes
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.games.base import ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.mechanism import Fitted
from benchmark.settings.threat import Guess


@dataclass(frozen=True, kw_only=True)
class AttributeSurface(ReleasedData):
    """View of attribute inference: people whose sensitive attribute is unknown.

    Attributes:
        labelled: released records whose ``sensitive`` is known, from the same process (grant ``labelled``).
        targets, targets_y: what is known of the people: held-out ones as the mechanism publishes them (surface
            ``attributes``), or members and non-members in the plain (surface ``people``), with their labels.
        truth: int64 (n,), their attribute (grant ``truth``).
        groups: how many values the attribute has.
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        **ReleasedData.granted_by,
        "labelled": "labelled",
        "truth": "truth",
    }

    labelled: Split
    targets: Float[Tensor, "n ..."]
    targets_y: Int[Tensor, " n"]
    truth: Int[Tensor, " n"]
    groups: int


@dataclass
class AttributeGuess(Guess):
    """Sensitive attribute of each person, as each of several attackers guesses it.

    Attributes:
        labels: attacker -> int64 (n,).
        scores: attacker -> (n,), the belief in value 1; for attributes of two values only.
    """

    labels: dict[str, Int[Tensor, " n"]]
    scores: dict[str, Float[Tensor, " n"]] = field(default_factory=dict)


class AttributesGame(ReleaseGame):
    """The attackers train on released records of known attribute and guess that of mapped people they never saw."""

    surface = "attributes"
    guess = AttributeGuess

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> AttributeSurface:
        mapped = fitted.encoded["test"]
        truth = attribute_of(context.data.test)
        return AttributeSurface(
            **seen_by_all(context, fitted, threat),
            labelled=labelled(context, fitted),
            targets=mapped.x,
            targets_y=mapped.y,
            truth=truth,
            groups=int(truth.max()) + 1,
        )

    def score(self, context: CellContext, outcome: Outcome, guess: AttributeGuess, surface: AttributeSurface) -> None:
        risk, notes = score_attributes(guess.labels, guess.scores, surface.truth)
        outcome.risk.update(risk)
        outcome.diagnostics.update(notes)


def attribute_of(split: Split) -> Tensor:
    if split.sensitive is None:
        raise Refused("The data set has no sensitive attribute to infer; choose one that has, e.g. dataset=lipton.")
    return split.sensitive


def labelled(context: CellContext, fitted: Fitted) -> Split:
    """Return released records with their attribute: published with synthetic rows, or that of the people behind."""
    release = fitted.release
    rows = Split(release.x, release.y if release.y.ndim == 1 else release.y.argmax(dim=1))
    if release.sensitive is not None:
        return replace(rows, sensitive=release.sensitive)
    if release.source is None:
        raise Refused("The release is synthetic and carries no sensitive attribute, so nothing links it to one.")
    return replace(rows, sensitive=attribute_of(context.data.owner)[release.source.to(release.x.device)])
