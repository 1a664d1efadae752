"""What adversaries of a release see. Every game has its own surface; all of them begin with what everybody sees."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator, Tensor, nn

from benchmark.data.base import Split
from benchmark.defenses.base import Release
from benchmark.threats.base import Surface, Threat


@dataclass(frozen=True)
class Pairs:
    """What an adversary knows on both sides: ``plain`` (q, ...) in [0, 1] and ``encoded`` (q, ...), row by row."""

    plain: Tensor
    encoded: Tensor


@dataclass(frozen=True, kw_only=True)
class ReleasedData(Surface):
    """What everybody sees of a release, and what some know besides.

    Attributes:
        x: (m, ...) all that was released, in whatever range the mechanism gives; y: (m,) or (m, classes).
        shape, num_classes: of one private sample and of the task.
        architecture: ``architecture(shape=..., num_classes=...)`` gives a new model of the cell's kind to train.
        published: the mechanism's facts, by ``Defense.facts`` (grant ``mechanism``).
        public: everybody's samples (grant ``public``).
        attacker: the adversary's own samples of the domain, the reference set R (grant ``attacker_data``).
        refit: ``refit(split, purpose) -> Release`` runs the mechanism on other data under a key of its own
            (grant ``refit``).
        encode: the owner's own map as a black box, (n, ...) -> (n, ...): chosen plaintexts (grant ``map``).
        models: networks that the owner hands out, by name (grant ``models``).
        secrets: the owner's secrets, by ``Defense.secrets``, for upper bounds (grant ``oracle``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "published": "mechanism",
        "public": "public",
        "attacker": "attacker_data",
        "refit": "refit",
        "encode": "map",
        "models": "models",
        "secrets": "oracle",
    }

    x: Tensor
    y: Tensor
    shape: tuple[int, ...]
    num_classes: int
    architecture: Callable[..., nn.Module]
    published: Mapping[str, Any]
    public: Split
    attacker: Split
    refit: Callable[[Split, str], Release]
    encode: Callable[[Tensor], Tensor]
    models: Mapping[str, nn.Module]
    secrets: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ReleaseSurface(ReleasedData):
    """Released rows under attack: what do they show of the private samples behind them?

    Attributes:
        targets: (n, ...) the released rows under attack.
        pairs: as many as the threat asks for, none of them a target (grant ``known_pairs``).
        truth, truth_y: (n, ...) and (n,), the private samples behind the targets (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        **ReleasedData.granted_by,
        "pairs": "known_pairs",
        "truth": "truth",
        "truth_y": "truth",
    }

    targets: Tensor
    pairs: Pairs
    truth: Tensor
    truth_y: Tensor


@dataclass(frozen=True, kw_only=True)
class MemberSurface(ReleasedData):
    """People, half of whom are in the private data: who is?

    Attributes:
        candidates: (n, ...) plain samples and their labels.
        members: bool (n,) (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "members": "truth"}

    candidates: Split
    members: Tensor


@dataclass(frozen=True, kw_only=True)
class AttributeSurface(ReleasedData):
    """People whose sensitive attribute is wanted.

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
    targets: Tensor
    targets_y: Tensor
    truth: Tensor
    groups: int


@dataclass(frozen=True, kw_only=True)
class IdentitySurface(ReleasedData):
    """Released rows: whose are they?

    Attributes:
        targets: (n, ...) released rows.
        recordings: samples of the participants from another time, ``group`` in 0 .. persons - 1 (grant ``recordings``).
        real: (k, ...) real samples of the participants from yet another time, as a yardstick for confidence.
        truth: int64 (n,), the participant behind each target; empty for synthetic data (grant ``truth``).
        persons: how many participants there are.
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        **ReleasedData.granted_by,
        "recordings": "recordings",
        "truth": "truth",
    }

    targets: Tensor
    recordings: Split
    real: Tensor
    truth: Tensor
    persons: int


@dataclass(frozen=True, kw_only=True)
class ParticipantSurface(ReleasedData):
    """Pairs of a participant and a release: was the participant's data in?

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

    asked: Tensor
    releases: tuple[Tensor, ...]
    recordings: Split
    persons: int
    members: Tensor


@dataclass(frozen=True, kw_only=True)
class RecordSurface(ReleasedData):
    """Pairs of a record and a release: was the record in?

    Attributes:
        records: (k, ...) plain samples, outliers, and their labels.
        asked: int64 (n,), which record; releases: n tensors (m, ...) of released rows.
        size: of the private data behind each of these releases.
        members: bool (n,) (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "members": "truth"}

    records: Split
    asked: Tensor
    releases: tuple[Tensor, ...]
    size: int
    members: Tensor


@dataclass(frozen=True, kw_only=True)
class CanarySurface(ReleasedData):
    """An auditor's view: one release of private data among which some canaries are; ``x`` and ``y`` are its rows.

    Attributes:
        canaries: (k, ...) plain samples and their labels, as the auditor made them.
        without: rows and labels of a release of the same private data without canaries (grant ``refit``).
        claim: (epsilon, delta) of this run by the mechanism's accountant, or None.
        members: bool (k,), what the coins said (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "without": "refit", "members": "truth"}

    canaries: Split
    without: tuple[Tensor, Tensor]
    claim: tuple[float, float] | None
    members: Tensor


@dataclass(frozen=True, kw_only=True)
class LinkageSurface(ReleaseSurface):
    """Released rows and a list of identified people: which of them is behind which row?

    Attributes:
        listed: (k, ...) plain samples; everybody behind a target is among them.
        position: int64 (n,), where (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleaseSurface.granted_by, "position": "truth"}

    listed: Tensor
    position: Tensor


@dataclass(frozen=True, kw_only=True)
class StatisticalSurface(ReleasedData):
    """The collection as a whole: what can one who is not entitled to do with it?

    Attributes:
        inputs: (n, ...) plain inputs of the task, never seen by anybody.
        inputs_y: int64 (n,), their labels (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "inputs_y": "truth"}

    inputs: Tensor
    inputs_y: Tensor


@dataclass(frozen=True, kw_only=True)
class CopySurface(ReleasedData):
    """The release beside the private data and as many people who are not in it: an auditor's view.

    Attributes:
        private, holdout: (k, ...) each (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleasedData.granted_by, "private": "truth", "holdout": "truth"}

    private: Tensor
    holdout: Tensor


class ReleaseThreat(Threat):
    """An adversary of the released data; ``surface`` names the game that it plays.

    Attributes:
        pairs: how many (private, released) pairs it holds; needs the knowledge ``known_pairs``.
    """

    setting = "release"
    surface = "release"
    pairs: int = 0


class ParticipantThreat(ReleaseThreat):
    """Asks whether participants are in the data, as wholes.

    Attributes:
        participants: how many it asks about, each one in a release with and in one without them.
    """

    surface = "participants"
    participants: int


class RecordThreat(ReleaseThreat):
    """Asks whether single records are in the data.

    Attributes:
        records: how many, the greatest outliers; trials: releases with each of them, and as many without.
    """

    surface = "records"
    records: int
    trials: int


class CanaryThreat(ReleaseThreat):
    """Audits the mechanism with records that it plants.

    Attributes:
        guesses: for how many canaries it guesses, half of them "in" (the highest scores), half "out"; an even number.
    """

    surface = "canaries"
    guesses: int

    @abstractmethod
    def make(self, own: Split, num_classes: int, rng: Generator) -> Split:
        """The canaries, made of the adversary's ``own`` samples and with the same attributes."""
