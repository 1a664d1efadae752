"""Base of all games of a release, and what their surfaces have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext, Game, note
from benchmark.settings.release.defense import Release
from benchmark.settings.release.mechanism import Fitted
from benchmark.settings.release.publication import Publication
from benchmark.settings.threat import Surface, Threat


@dataclass(frozen=True)
class Pairs:
    """Known pairs: private samples ``plain`` in [0, 1] and their releases ``encoded``, row by row."""

    plain: Float[Tensor, "q ..."]
    encoded: Float[Tensor, "q ..."]


@dataclass(frozen=True, kw_only=True)
class ReleasedData(Surface):
    """View of a release that all adversaries share; some fields are granted to a few of them.

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

    x: Float[Tensor, " m *released"]
    y: Shaped[Tensor, " m *classes"]
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


class ReleaseThreat(Threat):
    """Base of adversaries of the released data; ``surface`` names the game that they play.

    Attributes:
        pairs: how many (private, released) pairs it holds; needs the knowledge ``known_pairs``.
    """

    setting = "release"
    surface = "release"
    pairs: int = 0


class ReleaseGame(Game[Publication]):
    """One question about a release. It holds the truth; the threat gets the surface, restricted to what it may know."""

    hooks = frozenset({"release", "encode"})

    def play(self, context: CellContext) -> Outcome:
        threat = context.threat
        assert isinstance(threat, ReleaseThreat)
        fitted, outcome = self.honest.publish(context)
        surface = self.observe(context, fitted, threat)
        guess = self.ask(context, surface)
        self.score(context, outcome, guess, surface)
        note(outcome, guess)
        return outcome

    @abstractmethod
    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> ReleasedData:
        """Return everything about this cell, of which the threat will see what it was granted.

        Raises:
            Refused: the game cannot be played with this release or data set.
        """

    @abstractmethod
    def score(self, context: CellContext, outcome: Outcome, guess: Any, surface: Any) -> None:
        """Compare the guess with the truth."""


def seen_by_all(context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> dict[str, Any]:
    """Return the fields of :class:`ReleasedData`."""
    release = fitted.release
    return {
        "x": release.x,
        "y": release.y,
        "shape": context.data.shape,
        "num_classes": context.data.num_classes,
        "architecture": context.architecture,
        "published": context.defense.facts(),
        "public": context.data.public,
        "attacker": context.data.attacker,
        "refit": refitter(fitted),
        "encode": fitted.live.encode if "map" in threat.knowledge else _not_asked,
        "models": handed_out(fitted) if "models" in threat.knowledge else {},
        "secrets": fitted.live.secrets() if "oracle" in threat.knowledge else {},
    }


def refitter(fitted: Fitted) -> Callable[[Split, str], Release]:
    return fitted.mechanism.refit


def handed_out(fitted: Fitted) -> Mapping[str, nn.Module]:
    """Return the owner's published networks.

    Raises:
        Refused: it publishes none.
    """
    models = fitted.live.models()
    if not models:
        raise Refused("The threat wants the networks that are handed out with the release, but there are none.")
    return models


def _not_asked(x: Tensor) -> Tensor:
    raise AssertionError("hidden by restrict()")


def sources(fitted: Fitted) -> Tensor:
    """Return the private sample behind each released row, int64 (m,).

    Raises:
        Refused: the release is synthetic.
    """
    if fitted.release.source is None:
        raise Refused("The release is synthetic: no row of it stems from one private sample.")
    return fitted.release.source


def people(context: CellContext, count: int) -> tuple[Split, Tensor]:
    """Return members and non-members, as many of each, shuffled; and bool (n,), who is a member.

    Members are drawn from ``owner``, non-members from those in ``calibration`` who equal no member.

    Raises:
        Refused: there are fewer than two of either, or of ``count``.
    """
    owner, others = context.data.owner, context.data.calibration
    own = {tuple(row) for row in owner.x.flatten(1).tolist()}
    fresh = [i for i, row in enumerate(others.x.flatten(1).tolist()) if tuple(row) not in own]
    there = {"dataset.sizes.owner": len(owner), "dataset.sizes.calibration": len(fresh), "setting.candidates": count}
    each = min(there.values())
    if each < 2:
        least = min(there, key=there.__getitem__)
        raise Refused(
            f"Membership is asked of two people at least in the private data and two who are not: raise {least}, "
            f"which leaves {each}."
        )
    rng = context.rng("candidates")
    members = owner[torch.randperm(len(owner), generator=rng)[:each].to(owner.y.device)]
    outsiders = others[torch.tensor(fresh)[torch.randperm(len(fresh), generator=rng)[:each]].to(owner.y.device)]
    order = torch.randperm(2 * each, generator=rng).to(owner.y.device)
    inside = torch.cat([torch.ones(each, dtype=torch.bool), torch.zeros(each, dtype=torch.bool)]).to(owner.y.device)
    return members.joined(outsiders)[order], inside[order]
