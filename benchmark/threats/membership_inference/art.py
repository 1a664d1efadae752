"""Membership inference by the Adversarial Robustness Toolbox, played as it is.

Nicolae et al., *Adversarial Robustness Toolbox*, 2018 (arXiv 1807.01069). ART attacks a classifier, and a release has
none of its own: the adversary trains one on it, as any user would, wide and not regularised so that it memorises most.
An attack that learns needs people of whom it knows whether they were in. It takes the adversary's own samples: half of
these go through the mechanism, a second classifier is trained on what comes out, and the attack learns from its
predictions for both halves.
"""

from __future__ import annotations

import inspect
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import Refused
from benchmark.libraries import ART, built, classes, fitting, named
from benchmark.models.mlp import MLP
from benchmark.parameters import Arguments, Count
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.threat import Floor
from benchmark.threats.evasion.libraries import art_classifier
from benchmark.training.loop import train

VERSION = 1
PATH = "threat.parameters"
ASKED = ("MembershipInferenceBlackBox", "MembershipInferenceBlackBoxRuleBased", "LabelOnlyGapAttack")
"""Of ART's attacks those that ask a classifier once; its boundary attack needs thousands of queries for a person."""


class ArtMembership(ReleaseThreat):
    """Membership inference attack of ART on a classifier that is trained on the release.

    Args:
        attack: ``MembershipInferenceBlackBox`` (learns from a shadow), ``MembershipInferenceBlackBoxRuleBased``
            (members are the rightly classified), or ``LabelOnlyGapAttack``, ART's other name for the latter.
        parameters: of the class's constructor, e.g. ``attack_model_type``; ART's defaults for the others.
        hidden: width of each classifier, a network of one hidden layer.
        epochs: of its training.
    """

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.53)
    knowledge = frozenset({"attacker_data", "refit"})
    library = ART

    def __init__(
        self,
        *,
        attack: str = "MembershipInferenceBlackBox",
        parameters: Arguments | None = None,
        hidden: Count = 128,
        epochs: Count = 60,
    ) -> None:
        super().__init__()
        found = classes(ART.load("attacks.inference.membership_inference"))
        self.kind: Any = named(attack, {name: found[name] for name in ASKED}, "threat.attack", ART)
        self.parameters, self.hidden, self.epochs = dict(parameters or {}), hidden, epochs
        first = next(iter(inspect.signature(self.kind).parameters))
        fitting(self.kind, self.parameters, PATH, (first, "input_type", "attack_model", "verbose"))
        self.foreign(nn.Linear(1, 2), (1,), 2)  # so that a value that ART refuses is told before anything is trained

    def foreign(self, model: nn.Module, shape: tuple[int, ...], num_classes: int) -> Any:
        """Return ART's attack on ``model``."""
        return built(partial(self.kind, art_classifier(model, shape, num_classes)), self.parameters, PATH)

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        target = self.classifier(surface, surface.x, surface.y, rng)
        foreign = self.foreign(target, surface.shape, surface.num_classes)
        x, y = _arrays(surface.candidates.x), _arrays(surface.candidates.y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if hasattr(foreign, "fit"):
                known = self.known(surface, rng)
                foreign.fit(**known)
                found = foreign.infer(None, y, pred=foreign.estimator.predict(x), probabilities=True)
            else:
                found = foreign.infer(x, y)
        scores = torch.from_numpy(np.asarray(found, dtype=np.float64).reshape(len(y), -1)[:, -1].copy())
        return MembershipScores(scores.to(surface.candidates.x.device), 0.5)

    def known(self, surface: MemberSurface, rng: torch.Generator) -> dict[str, Any]:
        """Return predictions for the adversary's own people, half of them in a shadow release, as ART takes them.

        Raises:
            Refused: the adversary has too few samples of its own.
        """
        own = surface.attacker
        if len(own) < 2 * surface.num_classes:
            raise Refused("ART's attack learns from the adversary's own samples: raise dataset.sizes.attacker.")
        half = len(own) // 2
        order = torch.randperm(len(own), generator=rng).to(own.y.device)
        inside, outside = own[order[:half]], own[order[half : 2 * half]]
        release = surface.refit(inside, "art.shadow")
        shadow = art_classifier(self.classifier(surface, release.x, release.y, rng), surface.shape, surface.num_classes)
        return {
            "y": _arrays(inside.y),
            "test_y": _arrays(outside.y),
            "pred": shadow.predict(_arrays(inside.x)),
            "test_pred": shadow.predict(_arrays(outside.x)),
        }

    def classifier(self, surface: MemberSurface, x: Tensor, y: Tensor, rng: torch.Generator) -> nn.Module:
        """Return a classifier of people trained on a release ``x`` (m, ...) with labels ``y``.

        Raises:
            Refused: released rows have another shape than people.
        """
        if x.shape[1:] != surface.shape:
            raise Refused("Released rows have another shape than private samples: no classifier of them reads people.")
        model = MLP(shape=surface.shape, num_classes=surface.num_classes, hidden=[self.hidden], activation="relu")
        return train(model.to(x.device), x, y, epochs=self.epochs, rng=rng)


def _arrays(values: Tensor) -> Any:
    return values.detach().cpu().numpy()
