"""Attribute inference by the strongest of several attackers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.settings.release.games.attributes import AttributeGuess, AttributeSurface
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.threat import Floor
from benchmark.threats.attribute_inference.attackers import guess, known_attackers
from benchmark.threats.membership_inference.statistics import comparable

VERSION = 1


class StrongestAttacker(ReleaseThreat):
    """Attack that learns the attribute from released records and guesses it for held-out people who were mapped too.

    Args:
        attackers: names of :data:`benchmark.threats.attribute_inference.attackers.ATTACKERS`.
        decision: the attackers also see the record's label.
        adaptive: query access to the map: the change of an already mapped record by a second application is a feature
            (idempotence).
    """

    family = "attribute_inference"
    surface = "attributes"
    headline = "attribute_accuracy"
    floor = Floor("attribute_advantage", 0.05)
    needs = {"dataset.sensitive": "yes", "defense.attributes": "yes"}
    knowledge = frozenset({"labelled"})

    def __init__(
        self,
        *,
        attackers: Sequence[str] = ("boosting", "mlp", "svm", "tree", "forest"),
        decision: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.attackers, self.decision = known_attackers(attackers), decision
        if adaptive:
            self.knowledge = self.knowledge | {"map"}

    def attack(self, surface: AttributeSurface, rng: torch.Generator) -> AttributeGuess:
        labelled = surface.labelled
        assert labelled.sensitive is not None
        x = self._features(surface, labelled.x, labelled.y)
        targets = self._features(surface, surface.targets, surface.targets_y)
        targets, x = comparable(targets, x)
        return AttributeGuess(*guess(self.attackers, x, labelled.sensitive, targets, rng))

    def _features(self, surface: AttributeSurface, x: Tensor, y: Tensor) -> Tensor:
        parts = [x.flatten(start_dim=1)]
        if self.decision:
            parts.append(F.one_hot(y, surface.num_classes).to(x))
        if self.adaptive:
            with torch.no_grad():
                again = surface.encode(x)
            if again.shape == x.shape:
                parts.append((again - x).flatten(start_dim=1))
        return torch.cat(parts, dim=1)


class AboutPeople(StrongestAttacker):
    """Attack that guesses the attribute of known people, members and not, through a model of the release.

    Its accuracy on members beyond that on non-members (``attribute_leak``) is a leak; the rest is imputation.
    """

    surface = "people"
    headline = "attribute_leak"
    floor = Floor("attribute_leak", 0.05)
