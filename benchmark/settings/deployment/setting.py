"""A trained classifier meets inputs from the world, some of them altered by an adversary.

The honest side trains on the ``owner`` split and sets the alarm of its screen, where it has one, on ``calibration``;
the world's clean inputs are ``test``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import ConfigError, Diverged, positive
from benchmark.metrics.classification import accuracy, attack_success
from benchmark.metrics.evasion import by_decade, effort, sensitivity
from benchmark.outcome import Outcome
from benchmark.seeds import isolated
from benchmark.settings.base import Artifact, CellContext, Setting
from benchmark.settings.deployment.games.batches import Monitoring
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Guess
from benchmark.training.loop import Loss, predict, train

VERSION = 2
SECONDS = "deployment.seconds"
ROUNDING = 1e-5


@dataclass(frozen=True)
class Deployed:
    """The honest side as the world meets it.

    Attributes:
        model: gives logits; predictions are their argmax.
        alarm: suspicion above which an input is turned away; None where nothing is screened.
        seconds: of training.
    """

    model: nn.Module
    alarm: float | None
    seconds: float


class Deployment(Setting):
    """Train a classifier, deploy it, attack inputs that it classifies rightly.

    An input that the defense's screen turns away is no success of the adversary, and no use to an honest user either.

    Args:
        epochs, lr: of each training.
        victims: rightly classified test inputs under attack.
        targets: other classes that each victim should be taken for; None: all of them.
        false_alarm_rate: share of calibration inputs, or of usual batches, that a screen may turn away, in [0, 1).
        radius: L2 distance within which a success counts as ``success_within_radius``, a scale for all attacks.
        batch: inputs in each batch that a detector of shifts judges.
        draws: batches of each kind (usual, usual again, shifted) that it judges.
    """

    name = "deployment"
    surfaces = {
        "inputs": frozenset({"fit", "screen_inputs"}),
        "batches": frozenset({"fit", "screen_batches"}),
    }

    def __init__(
        self,
        *,
        epochs: int,
        lr: float,
        victims: int,
        targets: int | None,
        false_alarm_rate: float,
        radius: float,
        batch: int,
        draws: int,
    ) -> None:
        if victims < 1 or (targets is not None and targets < 1):
            raise ConfigError(
                f"setting.victims and setting.targets must be at least 1 (targets: null takes every other class), got "
                f"{victims} and {targets}."
            )
        if not 0 <= false_alarm_rate < 1:
            raise ConfigError(f"setting.false_alarm_rate must be in [0, 1), got {false_alarm_rate}.")
        for name, value in (("radius", radius), ("batch", batch), ("draws", draws)):
            positive(f"setting.{name}", value)
        self.epochs, self.lr, self.radius = epochs, lr, radius
        self.victims, self.targets, self.false_alarm_rate = victims, targets, false_alarm_rate
        self.batch, self.draws = batch, draws

    def play(self, context: CellContext) -> Outcome:
        if context.threat.surface == "batches":
            deployed = self._deploy(context)
            return Monitoring(context, deployed.model, deployed.seconds, self).play()
        return self._evade(context)

    def _evade(self, context: CellContext) -> Outcome:
        """Inputs altered one by one."""
        threat, test = context.threat, context.data.test
        assert isinstance(threat, InputThreat)
        deployed = self._deploy(context)
        logits, served = predict(deployed.model, test.x), self._served(context, deployed, test.x)
        right = (logits.argmax(dim=1) == test.y) & served
        outcome = Outcome(utility={"test_accuracy": right.double().mean().item()}, cost={"seconds": deployed.seconds})
        if deployed.alarm is not None:
            outcome.diagnostics["false_alarm_rate"] = (~served).double().mean().item()
        self._gradients(context, outcome, deployed.model, logits)
        surface = self._observe(context, deployed.model, right)
        self._score(context, outcome, deployed, surface, threat(surface, seed=context.seed))
        return outcome

    def _deploy(self, context: CellContext) -> Deployed:
        """The classifier that the defense fits, shared by all threats, and the alarm of its screen."""
        model = context.fresh_model()
        fit = self.fitting(context.rng("deployment.batches"))

        def build() -> Artifact:
            started = time.perf_counter()
            with isolated(context.seed, "deployment.train"):  # dropout draws from global state
                fitted = context.defense.fit(lambda: copy.deepcopy(model), context.data.owner, fit)
            state = {name: tensor.detach().cpu() for name, tensor in fitted.state_dict().items()}
            return {**state, SECONDS: torch.tensor(time.perf_counter() - started, dtype=torch.float64)}

        parts = ("dataset", "model", "setting", "scale", *(["defense"] if context.defense.overrides("fit") else []))
        state = dict(context.cache(("deployment", *parts), build))
        seconds = state.pop(SECONDS).item()
        model.load_state_dict(state)
        return Deployed(model.to(context.device).eval().requires_grad_(False), self._alarm(context), seconds)

    @staticmethod
    def _gradients(context: CellContext, outcome: Outcome, model: nn.Module, logits: Tensor) -> None:
        """Signs of masked gradients on the test inputs: how far outputs leave the useful range of float32.

        Args:
            logits: (n, classes) of the test inputs.
        """

        def build() -> Artifact:
            parts, double = context.data.test.x.split(1024), copy.deepcopy(model).double()
            return {
                "float32": torch.cat([sensitivity(model, part) for part in parts]),
                "float64": torch.cat([sensitivity(double, part.double()) for part in parts]),
            }

        amplitudes = context.cache(("sensitivity", "dataset", "model", "setting", "defense", "scale"), build)
        outcome.diagnostics |= {  # the mean hangs on a few inputs near the boundary, the median does not
            "mean_abs_gradient_test": amplitudes["float32"].double().mean().item(),
            "median_abs_gradient_test": amplitudes["float32"].double().median().item(),
            "median_abs_gradient_test_float64": amplitudes["float64"].median().item(),
            "max_abs_logit": logits.abs().max().item(),
            "saturated": (logits.softmax(dim=1).max(dim=1).values == 1).double().mean().item(),
        }
        outcome.curves |= {f"sensitivity_{precision}": by_decade(values) for precision, values in amplitudes.items()}

    def fitting(self, rng: torch.Generator) -> Callable[..., nn.Module]:
        """``fit(module, x, y, loss=..., epochs=...)``: the suite's loop with this cell's sizes."""

        def fit(
            module: nn.Module, x: Tensor, y: Tensor, *, loss: Loss = F.cross_entropy, epochs: int = self.epochs
        ) -> nn.Module:
            return train(module, x, y, epochs=epochs, rng=rng, lr=self.lr, loss=loss)

        return fit

    def _alarm(self, context: CellContext) -> float | None:
        """The suspicion that at most ``false_alarm_rate`` of the calibration inputs exceed."""
        if not context.defense.overrides("screen_inputs"):
            return None
        if len(context.data.calibration) == 0:
            raise ConfigError("A screen's alarm is set on calibration inputs: set dataset.sizes.calibration above 0.")
        calm = context.defense.screen_inputs(context.data.calibration.x)
        return calm.quantile(1 - self.false_alarm_rate, interpolation="higher").item()

    @staticmethod
    def _served(context: CellContext, deployed: Deployed, x: Tensor) -> Tensor:
        """Which inputs are not turned away, bool (n,)."""
        if deployed.alarm is None:
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        return context.defense.screen_inputs(x) <= deployed.alarm

    def _observe(self, context: CellContext, model: nn.Module, right: Tensor) -> InputSurface:
        """Victims in an order that no defense changes, each with the classes that it should be taken for."""
        data, rng = context.data, context.rng("victims")
        if self.victims > len(data.test):
            raise ConfigError(
                f"setting.victims asks for {self.victims} test inputs, but there are {len(data.test)}; lower it or "
                "raise dataset.sizes.test."
            )
        order = torch.randperm(len(data.test), generator=rng).to(right.device)
        chosen = order[right[order]][: self.victims]
        if len(chosen) == 0:
            raise Diverged("the deployed classifier is right about no test input, so there is nothing to attack.")
        drawn = torch.rand((len(data.test), data.num_classes - 1), generator=rng).argsort(dim=1)
        each = self._each(data.num_classes)
        steps = drawn[:, :each].sort(dim=1).values.to(right.device)[chosen] + 1
        victims = data.test[chosen.repeat_interleave(each)]
        return InputSurface(
            model=model,
            x=victims.x,
            y=victims.y,
            targets=(victims.y + steps.flatten()) % data.num_classes,
            num_classes=data.num_classes,
            published=context.defense.facts(),
            public=data.public,
            attacker=data.attacker,
        )

    def _each(self, num_classes: int) -> int:
        """Attacks on one victim."""
        return num_classes - 1 if self.targets is None else min(self.targets, num_classes - 1)

    def _score(
        self, context: CellContext, outcome: Outcome, deployed: Deployed, surface: InputSurface, guess: Guess
    ) -> None:
        """Judge the altered inputs by what the deployed classifier makes of them."""
        if not isinstance(guess, AdversarialExamples):
            raise TypeError(f"deployment cannot score a {type(guess).__name__}.")
        altered, each = checked(guess.x, surface.x), self._each(surface.num_classes)
        logits, served = predict(deployed.model, altered), self._served(context, deployed, altered)
        predicted = logits.argmax(dim=1).where(served, -1)  # what is turned away is taken for no class
        victim = torch.arange(len(altered), device=altered.device) // each
        spent = effort(surface.x, altered, predicted == surface.targets, victim, self.radius)
        outcome.risk["attack_success"] = attack_success(predicted, surface.targets)
        outcome.risk["success_within_radius"] = spent.pop("within_radius")
        outcome.risk["error_rate"] = 1 - accuracy(predicted.where(served, surface.y), surface.y)
        outcome.diagnostics |= {
            "attacks": len(altered),
            "stalled": guess.stalled.double().mean().item(),
            "mean_abs_gradient": sensitivity(deployed.model, surface.x[::each]).double().mean().item(),
            **spent,
            **guess.diagnostics,
            "attack_seconds": guess.seconds,
        }
        if surface.x.ndim == 4:
            show(outcome, surface.x, altered, each)


def checked(altered: Tensor, clean: Tensor) -> Tensor:
    """``altered`` as valid inputs.

    Raises:
        ValueError: the threat gave another shape, or values that are not finite or not in [0, 1].
    """
    if altered.shape != clean.shape:
        raise ValueError(f"altered inputs have shape {tuple(altered.shape)}, asked for were {tuple(clean.shape)}.")
    if not torch.isfinite(altered).all() or altered.min() < -ROUNDING or altered.max() > 1 + ROUNDING:
        raise ValueError("altered inputs must be finite and in [0, 1].")
    return altered.detach().to(clean).clamp(0, 1)


def show(outcome: Outcome, clean: Tensor, altered: Tensor, each: int) -> None:
    """A picture of one in ``each`` attacks, those on one victim; in the difference mid-grey is no change."""
    victims = torch.arange(len(altered) // each)
    index = victims * each + victims % each  # another target for every victim
    before, after = clean[index], altered[index]
    outcome.picture("adversarial", {"original": before, "adversarial": after, "difference": (after - before + 1) / 2})
