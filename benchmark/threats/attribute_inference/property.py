"""Property inference from updates: whether a batch has a property unrelated to the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge

from benchmark.parameters import Count
from benchmark.settings.collaboration.games.many_uploads import Beliefs, ManyUploadsSurface, ManyUploadsThreat
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.v_families import classify
from benchmark.threats.gradient_leakage.v_information import simulated

VERSION = 2


class PropertyInference(ManyUploadsThreat):
    """Classifier of whole updates, trained on updates of the adversary's own samples.

    Melis, Song, De Cristofaro, Shmatikov, *Exploiting Unintended Feature Leakage in Collaborative Learning*, IEEE S&P
    2019, section 4.2 (passive; either all or none of a batch have the property). Their classifier is a random forest; a
    linear one is added, and the better on simulated updates counts. The property is the dataset's sensitive attribute.

    Args:
        families: of classifiers, see :func:`~benchmark.threats.gradient_leakage.v_families.classify`.
        victims: updates to be judged.
        auxiliary: updates for training.
        trees: of a forest.
        adaptive: the training updates include the defense.
    """

    family = "attribute_inference"
    goal = "secret"
    headline = "attribute_accuracy"
    floor = Floor("attribute_accuracy", 0.6)

    def __init__(
        self,
        *,
        families: Sequence[str] = ("forest", "linear"),
        victims: Annotated[int, Ge(4)] = 300,
        auxiliary: Annotated[int, Ge(4)] = 800,
        trees: Count = 100,
        adaptive: bool = False,
    ) -> None:
        super().__init__(victims=victims, auxiliary=auxiliary, adaptive=adaptive)
        self.families, self.trees = families, trees

    def attack(self, surface: ManyUploadsSurface, rng: torch.Generator) -> Beliefs:
        batches, known = simulated(self, surface, rng)
        found, best = classify(self.families, known, batches.secret, surface.uploads, self.trees, rng)
        return Beliefs({"update": found[best]})
