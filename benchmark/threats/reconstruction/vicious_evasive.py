"""Vicious providers who know how models are screened, and hide.

Ours: the detectors of vicious models that they face are ours too (see ``benchmark/defenses/service/logit_spread.py``). Each
also trains through what the user does to the outputs, as the adaptive form of the plain one does.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.metrics.scatter import scatter
from benchmark.settings.service.games.outputs import ProviderSurface
from benchmark.threats.reconstruction.vicious_classifier import ViciousClassifier, fit_decoder
from benchmark.training.loop import train

VERSION = 1


class SpreadPenalty(ViciousClassifier):
    """Joint training that also keeps outputs of one class together, as an honest classifier does.

    Args:
        spread_weight: of the within-class over between-class scatter of each batch's logits; others as of the parent.
    """

    def __init__(self, *, spread_weight: float, **options: float) -> None:
        super().__init__(**options, adaptive=True)  # type: ignore[arg-type]
        self.spread_weight = spread_weight

    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        def penalty(logits: Tensor, y: Tensor) -> Tensor:
            within, between = scatter(logits, y)
            return self.spread_weight * within / between.clamp_min(1e-6)

        self.train_jointly(model, secret, view, rng, penalty)


class HonestFinish(ViciousClassifier):
    """Joint training, then the classification loss alone for a while, then a decoder fitted to what is left.

    Args:
        finish: share of the epochs that the honest ending takes, in (0, 1); others as of the parent.
    """

    def __init__(self, *, finish: float, **options: float) -> None:
        super().__init__(**options, adaptive=True)  # type: ignore[arg-type]
        if not 0 < finish < 1:
            raise ConfigError(f"threat.finish must be in (0, 1), got {finish}.")
        self.finish = finish

    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        epochs = max(round(self.finish * view.epochs), 1)
        self.train_jointly(model, secret, replace(view, epochs=max(view.epochs - epochs, 1)), rng)
        train(model, view.data.x, view.data.y, epochs=epochs, lr=view.lr, rng=rng, loss=F.cross_entropy)
        fit_decoder(secret, model, self.treatment(view), replace(view, epochs=epochs), rng, self.rebuilding)


class HiddenCarrier(ViciousClassifier):
    """Leakage where no scatter shows it: beside the largest logit, or in digits after the point.

    Args:
        carrier: ``non_top`` (the largest logit, which carries the class, tells the decoder nothing) or ``low_order``
            (only what rounding to multiples of ``step`` would remove tells it).
        step: of ``low_order``; others as of the parent.
    """

    def __init__(self, *, carrier: str, step: float, **options: float) -> None:
        super().__init__(**options, adaptive=True)  # type: ignore[arg-type]
        if carrier not in ("non_top", "low_order"):
            raise ConfigError(f"threat.carrier must be non_top or low_order, got {carrier!r}.")
        self.carrier, self.step = carrier, step

    def secret(self, view: ProviderSurface) -> nn.Module:
        return nn.Sequential(Carrier(self.carrier, self.step), super().secret(view))


class Carrier(nn.Module):
    """The part (n, classes) of revealed outputs that the decoder is allowed to read; see :class:`HiddenCarrier`."""

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
