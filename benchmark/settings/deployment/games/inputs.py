"""Surface of inputs: an adversary alters inputs of a deployed classifier one by one (evasion)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Diverged
from benchmark.metrics.classification import accuracy, attack_success
from benchmark.metrics.evasion import by_decade, effort, log10_sensitivity, sensitivity
from benchmark.outcome import Outcome
from benchmark.settings.base import Artifact, CellContext, Game, note
from benchmark.settings.deployment.classifier import Deployed, Operator
from benchmark.settings.threat import Guess, Surface, Threat
from benchmark.training.loop import predict

ROUNDING = 1e-5


@dataclass
class AdversarialExamples(Guess):
    """Inputs as the adversary altered them.

    Attributes:
        x: (n, ...) in [0, 1], one for each pair of an input and a target class that the surface asked for.
        stalled: bool (n,), the attack stopped for lack of a usable gradient rather than of budget.
    """

    x: Float[Tensor, " n *sample"]
    stalled: Bool[Tensor, " n"]


@dataclass(frozen=True)
class InputSurface(Surface):
    """View of an adversary of a deployed classifier; row i of ``x``, ``y`` and ``targets`` is one attack.

    Attributes:
        model: the classifier as deployed, (n, ...) -> logits (n, classes); its parameters take no gradient.
        x: (n, ...) clean inputs in [0, 1], rightly classified.
        y: int64 (n,) their labels.
        targets: int64 (n,) the class that each altered input should be taken for.
        num_classes: of the task.
        published: the defense's facts, by ``Defense.facts`` (grant ``mechanism``).
        public: everybody's samples (grant ``public``).
        attacker: the adversary's own samples of the domain (grant ``attacker_data``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "published": "mechanism",
        "public": "public",
        "attacker": "attacker_data",
    }

    model: nn.Module
    x: Float[Tensor, " n *sample"]
    y: Int[Tensor, " n"]
    targets: Int[Tensor, " n"]
    num_classes: int
    published: Mapping[str, Any]
    public: Split
    attacker: Split


class InputThreat(Threat):
    """Base of adversaries who alter inputs of a deployed classifier that they know (white box)."""

    setting = "deployment"
    surface = "inputs"
    needs = {"model.gradients": "yes"}


class InputsGame(Game[Operator]):
    """The threat alters rightly classified inputs; a success is one that is served and taken for the target class.

    An input that the defense's screen turns away is no success of the adversary, and no use to an honest user either.
    """

    surface = "inputs"
    hooks = frozenset({"fit", "screen_inputs"})
    guess = AdversarialExamples

    def play(self, context: CellContext) -> Outcome:
        test, deployed = context.data.test, self.honest.deploy(context)
        logits, served = predict(deployed.model, test.x), deployed.served(test.x)
        right = (logits.argmax(dim=1) == test.y) & served
        outcome = Outcome(utility={"test_accuracy": right.double().mean().item()}, cost={"seconds": deployed.seconds})
        if deployed.alarm is not None:
            outcome.diagnostics["false_alarm_rate"] = (~served).double().mean().item()
        report_gradients(context, outcome, deployed.model, logits)
        surface = self.observe(context, deployed.model, right)
        guess = self.ask(context, surface)
        self.score(outcome, deployed, surface, guess)
        note(outcome, guess)
        return outcome

    def observe(self, context: CellContext, model: nn.Module, right: Bool[Tensor, " n"]) -> InputSurface:
        """Return victims, in an order that no defense changes, each with the classes that it should be taken for.

        Args:
            right: bool (n,), which test inputs are served and rightly classified.

        Raises:
            ConfigError: there are fewer test inputs than victims.
            Diverged: the classifier is right about no test input.
        """
        data, rng = context.data, context.rng("victims")
        if self.honest.victims > len(data.test):
            raise ConfigError(
                f"setting.victims asks for {self.honest.victims} test inputs, but there are {len(data.test)}; lower it "
                "or raise dataset.sizes.test."
            )
        order = torch.randperm(len(data.test), generator=rng).to(right.device)
        chosen = order[right[order]][: self.honest.victims]
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
        """Return the number of attacks on one victim."""
        return num_classes - 1 if self.honest.targets is None else min(self.honest.targets, num_classes - 1)

    def score(self, outcome: Outcome, deployed: Deployed, surface: InputSurface, guess: AdversarialExamples) -> None:
        """Judge the altered inputs by what the deployed classifier makes of them."""
        altered, each = checked(guess.x, surface.x), self._each(surface.num_classes)
        logits, served = predict(deployed.model, altered), deployed.served(altered)
        predicted = logits.argmax(dim=1).where(served, -1)  # what is turned away is taken for no class
        victim = torch.arange(len(altered), device=altered.device) // each
        spent = effort(surface.x, altered, predicted == surface.targets, victim, self.honest.radius)
        outcome.risk["attack_success"] = attack_success(predicted, surface.targets)
        outcome.risk["success_within_radius"] = spent.pop("within_radius")
        outcome.risk["error_rate"] = 1 - accuracy(predicted.where(served, surface.y), surface.y)
        outcome.diagnostics |= {
            "attacks": len(altered),
            "stalled": guess.stalled.double().mean().item(),
            "mean_abs_gradient": sensitivity(deployed.model, surface.x[::each]).double().mean().item(),
            **spent,
        }
        if surface.x.ndim == 4:
            show(outcome, surface.x, altered, each)


def report_gradients(context: CellContext, outcome: Outcome, model: nn.Module, logits: Tensor) -> None:
    """Report signs of masked gradients on the test inputs: how far outputs leave the useful range of float32.

    Args:
        logits: (n, classes) of the test inputs.
    """

    def build() -> Artifact:
        x, double = context.data.test.x, copy.deepcopy(model).double()
        return {
            "float32": torch.cat([sensitivity(model, part) for part in x.split(1024)]),
            "log10": torch.cat([log10_sensitivity(double, part.double()) for part in x.split(256)]),
        }

    amplitudes = context.cache(("sensitivity", "dataset", "model", "setting", "defense", "scale"), build)
    outcome.diagnostics |= {  # the mean hangs on a few inputs near the boundary, the median does not
        "mean_abs_gradient_test": amplitudes["float32"].double().mean().item(),
        "median_abs_gradient_test": amplitudes["float32"].double().median().item(),
        "median_log10_gradient_test": amplitudes["log10"].median().item(),
        "max_abs_logit": logits.abs().max().item(),
        "saturated": (logits.softmax(dim=1).max(dim=1).values == 1).double().mean().item(),
    }
    outcome.curves |= {
        "sensitivity_float32": by_decade(amplitudes["float32"].double().log10()),
        "sensitivity": by_decade(amplitudes["log10"]),
    }


def checked(altered: Tensor, clean: Float[Tensor, " n *sample"]) -> Float[Tensor, " n *sample"]:
    """Return ``altered`` as valid inputs.

    Raises:
        ValueError: the threat gave another shape, or values that are not finite or not in [0, 1].
    """
    if altered.shape != clean.shape:
        raise ValueError(f"altered inputs have shape {tuple(altered.shape)}, asked for were {tuple(clean.shape)}.")
    if not torch.isfinite(altered).all() or altered.min() < -ROUNDING or altered.max() > 1 + ROUNDING:
        raise ValueError("altered inputs must be finite and in [0, 1].")
    return altered.detach().to(clean).clamp(0, 1)


def show(outcome: Outcome, clean: Tensor, altered: Tensor, each: int) -> None:
    """Add a picture of one in ``each`` attacks, those on one victim; in the difference mid-grey is no change."""
    victims = torch.arange(len(altered) // each)
    index = victims * each + victims % each  # another target for every victim
    before, after = clean[index], altered[index]
    outcome.picture("adversarial", {"original": before, "adversarial": after, "difference": (after - before + 1) / 2})
