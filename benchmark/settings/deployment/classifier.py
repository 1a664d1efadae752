"""The honest side of a deployment: it trains the classifier, sets the alarm of its screen, and serves inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import clock
from benchmark.errors import ConfigError
from benchmark.seeds import isolated
from benchmark.settings.base import Artifact, CellContext
from benchmark.training.loop import Loss, train
from benchmark.training.recipe import Recipe

SECONDS = "deployment.seconds"


@dataclass(frozen=True)
class Deployed:
    """A classifier in use, with its screen.

    Attributes:
        context: of the cell, with the defense that screens.
        model: gives logits; predictions are their argmax.
        alarm: suspicion above which an input is turned away; None where nothing is screened.
        seconds: of training.
    """

    context: CellContext
    model: nn.Module
    alarm: float | None
    seconds: float

    def served(self, x: Float[Tensor, "n ..."]) -> Bool[Tensor, " n"]:
        """Return which inputs are not turned away, bool (n,)."""
        if self.alarm is None:
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        return self.context.defense.screen_inputs(x) <= self.alarm


@dataclass(frozen=True)
class Operator:
    """Operator who trains and deploys classifiers.

    Attributes:
        epochs, lr, victims, targets, false_alarm_rate, radius, batch, draws, usual_draws, recipe: as the arguments of
            :class:`benchmark.settings.deployment.setting.Deployment`.
    """

    epochs: int
    lr: float
    victims: int
    targets: int | None
    false_alarm_rate: float
    radius: float
    batch: int
    draws: int
    usual_draws: int
    recipe: Recipe | None = None

    def fitting(self, rng: torch.Generator) -> Callable[..., nn.Module]:
        """Return ``fit(module, x, y, loss=..., epochs=...)``: the suite's training loop with this cell's sizes."""

        def fit(
            module: nn.Module, x: Tensor, y: Tensor, *, loss: Loss = F.cross_entropy, epochs: int = self.epochs
        ) -> nn.Module:
            return train(module, x, y, epochs=epochs, rng=rng, lr=self.lr, loss=loss, recipe=self.recipe)

        return fit

    def deploy(self, context: CellContext) -> Deployed:
        """Return the classifier that the defense fits, shared by all threats, with the alarm of its screen."""
        model = context.fresh_model(owners=True)
        fit = self.fitting(context.rng("deployment.batches"))

        def build() -> Artifact:
            started = clock.now()
            with isolated(context.seed, "deployment.train"):  # dropout draws from global state
                fitted = context.defense.fit(lambda: copy.deepcopy(model), context.data.owner, fit)
            state = {name: tensor.detach().cpu() for name, tensor in fitted.state_dict().items()}
            return {**state, SECONDS: torch.tensor(clock.now() - started, dtype=torch.float64)}

        parts = ("dataset", "model", "setting", "scale", *(["defense"] if context.defense.overrides("fit") else []))
        state = dict(context.cache(("deployment", *parts), build))
        seconds = state.pop(SECONDS).item()
        model.load_state_dict(state)
        return Deployed(context, model.to(context.device).eval().requires_grad_(False), self._alarm(context), seconds)

    def _alarm(self, context: CellContext) -> float | None:
        """Return the suspicion that at most ``false_alarm_rate`` of the calibration inputs exceed."""
        if not context.defense.overrides("screen_inputs"):
            return None
        if len(context.data.calibration) == 0:
            raise ConfigError("A screen's alarm is set on calibration inputs: set dataset.sizes.calibration above 0.")
        calm = context.defense.screen_inputs(context.data.calibration.x)
        return calm.quantile(1 - self.false_alarm_rate, interpolation="higher").item()
