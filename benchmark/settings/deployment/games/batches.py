"""Surface of batches: they arrive at a deployed classifier, some from a shifted population; a detector judges each.

The alarm is set on batches of unseen usual inputs so that at most ``false_alarm_rate`` of them raise it, and false
alarms are counted again on further such batches. Where the test part is small (119 patients) all these batches overlap,
and their spread over draws is smaller than it would be over hospitals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from benchmark import clock
from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy, auc
from benchmark.metrics.detection import ks_suspicion, power
from benchmark.outcome import Outcome
from benchmark.parameters import Fraction
from benchmark.seeds import derive
from benchmark.settings.base import Artifact, CellContext, Game, note
from benchmark.settings.deployment.classifier import Deployed, Operator
from benchmark.settings.deployment.defense import DetectorContext
from benchmark.settings.threat import Guess, Surface, Threat
from benchmark.training.loop import predict


@dataclass(frozen=True)
class BatchSurface(Surface):
    """View of a threat that shifts the inputs of a deployed classifier.

    Attributes:
        x: (n, ...) unseen inputs of the classifier's own population, or of the shifted one for a threat that asks for
            it; y: int64 (n,) their labels, which no detector sees.
        usual: (m, ...) further unseen inputs of the classifier's own population.
        model: the classifier (grant ``model``).
        published: the detector's facts, by ``Defense.facts`` (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"model": "model", "published": "mechanism"}

    x: Float[Tensor, " n *sample"]
    y: Int[Tensor, " n"]
    usual: Float[Tensor, " m *sample"]
    model: nn.Module
    published: Mapping[str, Any]


@dataclass
class ShiftedInputs(Guess):
    """Population that batches are drawn from after the shift.

    Attributes:
        x: (m, ...) inputs; origin: int64 (m,), the row of the surface that each of them comes from.
    """

    x: Float[Tensor, " m *sample"]
    origin: Int[Tensor, " m"]


class ShiftThreat(Threat):
    """Base of shifts of the population; nobody need mean harm.

    Class attributes:
        population: ``own``, the classifier's own population, altered; or ``shifted``, the one that the data set brings.

    Args:
        share: of a batch, in (0, 1], that comes from the shifted population; the rest are usual inputs.
    """

    family = "shift"
    setting = "deployment"
    surface = "batches"
    headline = "missed"
    population: ClassVar[str] = "own"

    def __init__(self, *, share: Fraction = 1.0, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.share = share


NULL, HELD_OUT, SHIFTED = "null", "held_out", "shifted"
LEVELS = torch.linspace(0, 1, 21).tolist()
MOST_FALSE_ALARMS = 2
"""Times the allowed false alarms: a detector with more on held-out usual batches counts as one that misses all."""


class BatchesGame(Game[Operator]):
    """Batches are drawn from the usual and from the shifted population, and the defense's detector judges each."""

    surface = "batches"
    hooks = frozenset({"fit", "screen_batches"})
    guess = ShiftedInputs

    def play(self, context: CellContext) -> Outcome:
        threat, test, deployed = context.threat, context.data.test, self.honest.deploy(context)
        assert isinstance(threat, ShiftThreat)
        surface = self.observe(context, deployed.model)
        guess = self.ask(context, surface)
        batches = {
            NULL: self._draw(context, test.x, NULL),
            HELD_OUT: self._draw(context, test.x, HELD_OUT),
            SHIFTED: self._mix(context, guess.x, threat.share),
        }
        outcome = Outcome(cost={"seconds": deployed.seconds}, diagnostics={"batch": self.honest.batch})
        note(outcome, guess)
        alarms = self._judge(context, outcome, deployed, batches)
        clean = predict(deployed.model, test.x)
        outcome.utility["test_accuracy"] = accuracy(clean, test.y) * (1 - alarms)
        report_harm(outcome, threat.share, clean, test.y, predict(deployed.model, guess.x), surface.y[guess.origin])
        if len(context.data.shape) == 3:
            outcome.picture("shift", {"usual": surface.x[guess.origin], "shifted": guess.x})
        return outcome

    def observe(self, context: CellContext, model: nn.Module) -> BatchSurface:
        """Return the inputs that arrive at the deployed ``model``, of the population that the threat asks for."""
        threat, data = context.threat, context.data
        assert isinstance(threat, ShiftThreat)
        arriving = data.shifted if threat.population == "shifted" else data.test
        assert arriving is not None, "the threat needs dataset.shift=natural"
        return BatchSurface(
            x=arriving.x, y=arriving.y, usual=data.calibration.x, model=model, published=context.defense.facts()
        )

    # -- batches ---------------------------------------------------------------------------------------------
    def _draw(self, context: CellContext, x: Tensor, group: str) -> Tensor:
        """Return batches of ``x``, each drawn without replacement, (draws, batch, ...)."""
        size = self.honest.batch
        draws = self.honest.usual_draws if group in (NULL, HELD_OUT) else self.honest.draws
        if size > len(x):
            raise ConfigError(
                f"setting.batch asks for {size} inputs, but there are {len(x)} {group} ones to draw from; lower it or "
                "raise dataset.sizes.test."
            )
        rng = context.rng(f"monitoring.{group}")
        return x[torch.stack([torch.randperm(len(x), generator=rng)[:size] for _ in range(draws)]).to(x.device)]

    def _mix(self, context: CellContext, shifted: Tensor, share: float) -> Tensor:
        """Return batches of which a ``share`` (at least one input) is shifted and the rest usual."""
        batches = self._draw(context, shifted, SHIFTED)
        count = max(1, round(share * self.honest.batch))
        if count < self.honest.batch:
            batches[:, count:] = self._draw(context, context.data.test.x, "usual")[:, count:]
        return batches

    # -- judging ---------------------------------------------------------------------------------------------
    def _judge(self, context: CellContext, outcome: Outcome, deployed: Deployed, batches: dict[str, Tensor]) -> float:
        """Fill in risk and diagnostics; return the share of held-out usual batches that raise the alarm."""
        if not context.defense.overrides("screen_batches"):  # nobody watches
            outcome.risk["missed"] = 1.0
            return 0.0
        started = clock.now()
        detectors = {group: self._detector_context(context, deployed.model, group) for group in batches}
        evidence = {group: context.defense.screen_batches(batches[group], detectors[group]) for group in batches}
        saved = sum(detector.saved for detector in detectors.values())
        outcome.cost["seconds"] += clock.now() - started + saved
        suspicion = suspicions(evidence)
        level = self.honest.false_alarm_rate
        measured = power(suspicion[SHIFTED], suspicion[NULL], suspicion[HELD_OUT], level)
        # An alarm that goes off without a shift twice as often as it may tells nothing when it goes off.
        trusted = measured["held_out_false_alarms"] <= MOST_FALSE_ALARMS * level
        outcome.risk["missed"] = 1 - measured["power"] if trusted else 1.0
        outcome.diagnostics |= {**measured, "alarm_is_calibrated": "yes" if trusted else "no"}
        for group in (NULL, SHIFTED):
            outcome.diagnostics[f"suspicion_{group}"] = suspicion[group].double().mean().item()
        outcome.curves["power_at_level"] = [
            power(suspicion[SHIFTED], suspicion[NULL], suspicion[HELD_OUT], at)["power"] for at in LEVELS
        ]
        return measured["held_out_false_alarms"]

    def _detector_context(self, context: CellContext, model: nn.Module, group: str) -> DetectorContext:
        """Return what a detector has when it judges the batches of ``group``."""
        own = ["defense"] if context.defense.overrides("fit") else []
        parts = ("dataset", "model", "setting", "scale", *own, *(["threat"] if group == SHIFTED else []))

        def member(index: int) -> nn.Module:
            purpose = f"monitoring.member{index}"

            def build(module: nn.Module) -> nn.Module:
                return self.honest.fitting(context.rng(f"{purpose}.batches"))(
                    module, context.data.owner.x, context.data.owner.y
                )

            key = (purpose, "dataset", "model", "setting", "scale")
            return context.trained(key, build, purpose=f"{purpose}.init").requires_grad_(False)

        def learn(module: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> nn.Module:
            return self.honest.fitting(rng)(module, x, y)

        def recall(name: str, build: Callable[[], Artifact]) -> Artifact:
            return context.cache((f"{name}.{group}", *parts), build)

        return DetectorContext(
            model=model,
            train=context.data.owner,
            validation=context.data.calibration,
            num_classes=context.data.num_classes,
            seed=derive(context.seed, f"monitoring.detector.{group}"),
            member=member,
            fresh=lambda num_classes: context.fresh_model("monitoring.fresh", num_classes=num_classes),
            learn=learn,
            recall=recall,
        )


def report_harm(outcome: Outcome, share: float, clean: Tensor, y: Tensor, shifted: Tensor, shifted_y: Tensor) -> None:
    """Report what the shift costs a classifier without a detector: accuracy, and AUC where there are two classes.

    Args:
        share: of a batch that is shifted.
        clean, y: logits and labels of usual inputs; shifted, shifted_y: of shifted ones.
    """
    before, after = accuracy(clean, y), accuracy(shifted, shifted_y)
    outcome.risk["accuracy_drop"] = share * (before - after)
    outcome.diagnostics |= {"accuracy_usual": before, "accuracy_shifted": share * after + (1 - share) * before}
    if clean.shape[1] == 2 and 0 < shifted_y.double().mean() < 1:
        outcome.diagnostics["auc_usual"] = auc(clean[:, 1] - clean[:, 0], y)
        outcome.diagnostics["auc_shifted"] = auc(shifted[:, 1] - shifted[:, 0], shifted_y)


def suspicions(evidence: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return one number a batch.

    Evidence for each input, (q, n), is compared with that of all usual batches but itself.
    """
    null = evidence[NULL]
    if null.ndim == 1:
        return evidence
    result = {}
    for group, numbers in evidence.items():
        own = group == NULL
        rest = [torch.cat([null[:i], null[i + 1 :]]) if own else null for i in range(len(numbers))]
        result[group] = torch.tensor(
            [ks_suspicion(sample, others.flatten()) for sample, others in zip(numbers, rest, strict=True)],
            dtype=torch.float64,
        )
    return result
