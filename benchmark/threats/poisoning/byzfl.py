"""Attacks of malicious parties from byzfl, played as they are.

Guerraoui, Gupta, Pinot, Rouault, Stephan and others, *ByzFL: Research Framework for Robust Federated Learning*, 2025
(arXiv 2505.24802).
"""

from __future__ import annotations

import inspect

import torch

from benchmark.errors import ConfigError
from benchmark.libraries import BYZFL, built, classes, fitting, named
from benchmark.parameters import Arguments, BelowOne
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class Byzfl(ContributionThreat):
    """Attack of byzfl: all malicious parties upload the vector that it makes of the honest parties' updates.

    Args:
        attack: a class of ``byzfl.attacks.attacks``, e.g. ``ALittleIsEnough``, ``Mimic``.
        parameters: of its constructor, e.g. ``tau``; byzfl's defaults for the others.
        fraction, follows_exchange: as in :class:`ContributionThreat`.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)
    knowledge = frozenset({"updates"})
    library = BYZFL

    def __init__(
        self,
        *,
        attack: str = "ALittleIsEnough",
        parameters: Arguments | None = None,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        found = classes(BYZFL.load("attacks.attacks"))
        attacks = {name: kind for name, kind in found.items() if _makes_updates(kind)}
        kind, arguments = named(attack, attacks, "threat.attack", BYZFL), dict(parameters or {})
        fitting(kind, arguments, "threat.parameters")
        self.name, self.foreign = attack, built(kind, arguments, "threat.parameters")

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        known = surface.honest if len(surface.honest) else surface.own
        try:
            update = self.foreign(known).to(surface.own)
        except ValueError as error:
            raise ConfigError(f"byzfl's {self.name} refuses {len(known)} honest updates: {error}.") from error
        return Contribution(update.expand_as(surface.own))


def _makes_updates(kind: type) -> bool:
    """Return whether the class is called with the honest updates; rules are not, nor are attacks on labels."""
    return "honest_vectors" in inspect.signature(kind.__call__).parameters
