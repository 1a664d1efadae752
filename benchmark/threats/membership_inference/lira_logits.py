"""Likelihood-ratio membership inference from the logits of a classifier trained on the release.

Carlini, Chien, Nasr, Song, Terzis, Tramer, *Membership Inference Attacks From First Principles*, S&P 2022: the
statistic is the logit-scaled confidence ``log p_y - log sum_{y' != y} p_y'`` in float64. A release has no classifier of
its own: the adversary trains one on it, as any user would, and one on every shadow release; it is wide and not
regularised, so that it memorises most.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.errors import Refused
from benchmark.models.mlp import MLP
from benchmark.parameters import Count
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.lira import Lira
from benchmark.training.loop import predict, train

VERSION = 2


class LiraLogits(Lira):
    """Form of :class:`Lira` whose statistic is the confidence of a trained classifier.

    Args:
        shadows, offline: as in :class:`Lira`.
        hidden: width of each classifier, a network of one hidden layer.
        epochs: of its training.
    """

    floor = Floor("attack_auc", 0.53)

    def __init__(
        self,
        *,
        shadows: Annotated[int, Ge(4)] = 16,
        offline: bool = False,
        hidden: Count = 128,
        epochs: Count = 60,
        adaptive: bool = True,
    ) -> None:
        super().__init__(shadows=shadows, statistic="nearest", offline=offline, adaptive=adaptive)
        self.hidden, self.epochs = hidden, epochs

    def measure(self, surface: MemberSurface, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        asked = surface.candidates
        if x.shape[1:] != surface.shape:
            raise Refused("Released rows have another shape than private samples: no classifier of them reads people.")
        model = MLP(shape=surface.shape, num_classes=surface.num_classes, hidden=[self.hidden], activation="relu")
        model = model.to(x.device)
        return scaled_confidence(predict(train(model, x, y, epochs=self.epochs, rng=rng), asked.x), asked.y)


def scaled_confidence(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``log p_y - log (1 - p_y)`` in float64, computed from logits without a probability."""
    logits = logits.double()
    own = logits.gather(1, y.unsqueeze(1)).squeeze(1)
    return own - logits.scatter(1, y.unsqueeze(1), -torch.inf).logsumexp(dim=1)
