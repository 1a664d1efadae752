"""Property inference from updates: does a batch have a property that has nothing to do with the task?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmark.settings.collaboration.games.many_uploads import Beliefs, ManyUploadsSurface, ManyUploadsThreat
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.v_families import classify
from benchmark.threats.gradient_leakage.v_information import simulated

VERSION = 1


class PropertyInference(ManyUploadsThreat):
    """A classifier of whole updates, taught on updates that the adversary causes with samples of its own.

    Melis, Song, De Cristofaro, Shmatikov, *Exploiting Unintended Feature Leakage in Collaborative Learning*, IEEE S&P
    2019, section 4.2 (passive; batches that have the property throughout, or not at all). Their classifier is a random
    forest; a linear one stands beside it, and the better counts. The property is the dataset's sensitive attribute.

    Args:
        families: of classifiers, see :func:`~benchmark.threats.gradient_leakage.v_families.classify`.
        victims: updates it is judged on; auxiliary: updates it is taught on. trees: of a forest.
        adaptive: teaches itself with the defense in place.
    """

    family = "attribute_inference"
    goal = "secret"
    headline = "attribute_accuracy"
    floor = Floor("attribute_accuracy", 0.6)

    def __init__(self, *, families: Sequence[str], victims: int, auxiliary: int, trees: int, adaptive: bool) -> None:
        super().__init__(victims=victims, auxiliary=auxiliary, adaptive=adaptive)
        self.families, self.trees = families, trees

    def attack(self, surface: ManyUploadsSurface, rng: torch.Generator) -> Beliefs:
        batches, known = simulated(self, surface, rng)
        beliefs = classify(self.families, known, batches.secret, surface.uploads, self.trees, rng)
        return Beliefs({family: {"update": belief} for family, belief in beliefs.items()})
