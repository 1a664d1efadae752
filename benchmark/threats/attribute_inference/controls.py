"""Controls of attribute inference: the most frequent value for everybody, and the truth."""

from __future__ import annotations

import torch

from benchmark.settings.release.games.attributes import AttributeGuess, AttributeSurface
from benchmark.settings.release.games.base import ReleaseThreat

VERSION = 1


class Majority(ReleaseThreat):
    """Negative control: the most frequent value among the records of known attribute."""

    family = "attribute_inference"
    surface = "attributes"
    headline = "attribute_accuracy"
    control = "negative"
    needs = {"dataset.sensitive": "yes", "defense.attributes": "yes"}
    knowledge = frozenset({"labelled"})

    def attack(self, surface: AttributeSurface, rng: torch.Generator) -> AttributeGuess:
        assert surface.labelled.sensitive is not None
        most = surface.labelled.sensitive.bincount().argmax()
        return AttributeGuess({"majority": most.expand(len(surface.targets))})


class KnowsAttribute(ReleaseThreat):
    """Positive control: the truth."""

    family = "attribute_inference"
    surface = "attributes"
    headline = "attribute_accuracy"
    control = "positive"
    needs = {"dataset.sensitive": "yes", "defense.attributes": "yes"}
    knowledge = frozenset({"truth"})

    def attack(self, surface: AttributeSurface, rng: torch.Generator) -> AttributeGuess:
        return AttributeGuess({"truth": surface.truth})
