"""What a game is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.defenses.base import Release
from benchmark.errors import Refused
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import ReleasedData, ReleaseThreat
from benchmark.threats.base import Guess


class Game(ABC):
    """One question about a release. It holds the truth; the threat gets the surface, restricted to what it may know."""

    guess: type[Guess]

    @abstractmethod
    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> ReleasedData:
        """Everything about this cell, of which the threat will see what it was granted.

        Raises:
            Refused: the game cannot be played with this release or data set.
        """

    @abstractmethod
    def score(self, stage: Stage, outcome: Outcome, guess: Any, surface: Any) -> None:
        """Hold the guess against the truth."""


def seen_by_all(stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> dict[str, Any]:
    """The fields of :class:`ReleasedData`."""
    release = fitted.release
    return {
        "x": release.x,
        "y": release.y,
        "shape": stage.data.shape,
        "num_classes": stage.data.num_classes,
        "architecture": stage.architecture,
        "published": stage.defense.facts(),
        "public": stage.data.public,
        "attacker": stage.data.attacker,
        "refit": refitter(fitted),
        "encode": fitted.live.encode if "map" in threat.knowledge else _not_asked,
        "models": handed_out(fitted) if "models" in threat.knowledge else {},
        "secrets": fitted.live.secrets() if "oracle" in threat.knowledge else {},
    }


def refitter(fitted: Fitted) -> Callable[[Split, str], Release]:
    return fitted.mechanism.refit


def handed_out(fitted: Fitted) -> Mapping[str, nn.Module]:
    """The owner's published networks.

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
    """The private sample behind each released row, int64 (m,).

    Raises:
        Refused: the release is synthetic.
    """
    if fitted.release.source is None:
        raise Refused("The release is synthetic: no row of it stems from one private sample.")
    return fitted.release.source


def people(stage: Stage, count: int) -> tuple[Split, Tensor]:
    """Members and non-members, as many of each, shuffled; and bool (n,) who is a member.

    Members are drawn from ``owner``, non-members from ``calibration``, whoever equals a member left out.

    Raises:
        Refused: nobody is left in ``calibration``.
    """
    owner, others = stage.data.owner, stage.data.calibration
    own = {tuple(row) for row in owner.x.flatten(1).tolist()}
    fresh = [i for i, row in enumerate(others.x.flatten(1).tolist()) if tuple(row) not in own]
    each = min(count, len(owner), len(fresh))
    if each < 2:
        raise Refused("Membership needs people who are not in the private data: raise dataset.sizes.calibration.")
    rng = stage.rng("candidates")
    members = owner[torch.randperm(len(owner), generator=rng)[:each].to(owner.y.device)]
    outsiders = others[torch.tensor(fresh)[torch.randperm(len(fresh), generator=rng)[:each]].to(owner.y.device)]
    order = torch.randperm(2 * each, generator=rng).to(owner.y.device)
    inside = torch.cat([torch.ones(each, dtype=torch.bool), torch.zeros(each, dtype=torch.bool)]).to(owner.y.device)
    return members.joined(outsiders)[order], inside[order]
