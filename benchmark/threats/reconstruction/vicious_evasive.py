"""Vicious providers who know how models are screened, and evade it.

These attacks are ours, like the detectors of vicious models (see ``benchmark/defenses/service/logit_spread.py``). Each
also trains through the user's treatment of the outputs, as the adaptive form of the plain attack does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.metrics.scatter import scatter
from benchmark.parameters import NonNegative, Positive, Rate
from benchmark.settings.service.games.outputs import ProviderSurface
from benchmark.threats.reconstruction.vicious_classifier import ViciousClassifier, fit_decoder
from benchmark.training.loop import train

VERSION = 1


class SpreadPenalty(ViciousClassifier):
    """Joint training that also keeps outputs of one class together, as an honest classifier does.

    Args:
        spread_weight: of the within-class over between-class scatter of each batch's logits; others as of the parent.
    """

    def __init__(self, *, spread_weight: NonNegative = 3.0, **options: Any) -> None:
        super().__init__(**options, adaptive=True)
        self.spread_weight = spread_weight

    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        def penalty(logits: Tensor, y: Tensor) -> Tensor:
            within, between = scatter(logits, y)
            return self.spread_weight * within / between.clamp_min(1e-6)

        self.train_jointly(model, secret, view, rng, penalty)


class HonestFinish(ViciousClassifier):
    """Joint training, followed by the pure classification loss and a decoder fitted to the result.

    Args:
        finish: share of the epochs that the honest ending takes, in (0, 1); others as of the parent.
    """

    def __init__(self, *, finish: Rate = 0.25, **options: Any) -> None:
        super().__init__(**options, adaptive=True)
        self.finish = finish

    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        epochs = max(round(self.finish * view.epochs), 1)
        self.train_jointly(model, secret, replace(view, epochs=max(view.epochs - epochs, 1)), rng)
        ending = replace(view, epochs=epochs)
        train(model, view.data.x, view.data.y, **ending.budget, rng=rng, loss=F.cross_entropy)
        fit_decoder(secret, model, self.treatment(view), ending, rng, self.rebuilding)


class HiddenCarrier(ViciousClassifier):
    """Leakage that no scatter shows: outside the largest logit, or in the low-order digits.

    Args:
        carrier: ``non_top`` (the decoder does not read the largest logit, which carries the class) or ``low_order`` (it
            reads only the part that rounding to multiples of ``step`` would remove).
        step: of ``low_order``; others as of the parent.
    """

    def __init__(
        self, *, carrier: Literal["non_top", "low_order"] = "non_top", step: Positive = 1.0, **options: Any
    ) -> None:
        super().__init__(**options, adaptive=True)
        self.carrier, self.step = carrier, step

    def secret(self, view: ProviderSurface) -> nn.Module:
        return nn.Sequential(Carrier(self.carrier, self.step), super().secret(view))


class Carrier(nn.Module):
    """Module that keeps the part (n, classes) of revealed outputs that the decoder may read; see
    :class:`HiddenCarrier`."""

    def __init__(self, part: str, step: float) -> None:
        super().__init__()
        self.part, self.step = part, step

    def forward(self, outputs: Tensor) -> Tensor:
        if self.part == "low_order":
            scaled = outputs / self.step
            return scaled - scaled.detach().round()
        top = outputs.argmax(dim=1, keepdim=True)
        others = outputs.scatter(1, top, 0.0)
        mean = others.sum(dim=1, keepdim=True) / (outputs.shape[1] - 1)
        return (others - mean).scatter(1, top, 0.0)
