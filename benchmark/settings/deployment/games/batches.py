"""Batches arrive at a deployed classifier, some from a shifted population; a detector judges each batch.

The alarm is set on batches of unseen usual inputs so that at most ``false_alarm_rate`` of them raise it, and false
alarms are counted again on further such batches. Where the test part is small (119 patients) all these batches overlap,
and their spread over draws is smaller than it would be over hospitals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy, auc
from benchmark.metrics.detection import ks_suspicion, power
from benchmark.outcome import Outcome
from benchmark.seeds import derive
from benchmark.settings.base import Artifact, CellContext
from benchmark.settings.deployment.defense import DetectorContext
from benchmark.settings.threat import Guess, Surface, Threat
from benchmark.training.loop import predict

if TYPE_CHECKING:
    from benchmark.settings.deployment.setting import Deployment


@dataclass(frozen=True)
class WorldSurface(Surface):
    """The world in which a classifier is deployed.

    Attributes:
        x: (n, ...) unseen inputs of the classifier's own population, or of the shifted one for a threat that asks for
            it; y: int64 (n,) their labels, which no detector sees.
        usual: (m, ...) further unseen inputs of the classifier's own population.
        model: the classifier (grant ``model``).
        published: the detector's facts, by ``Defense.facts`` (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"model": "model", "published": "mechanism"}

    x: Tensor
    y: Tensor
    usual: Tensor
    model: nn.Module
    published: Mapping[str, Any]


@dataclass
class ShiftedInputs(Guess):
    """The population that batches are drawn from once the world has shifted.

    Attributes:
        x: (m, ...) inputs; origin: int64 (m,), the row of the surface that each of them comes from.
    """

    x: Tensor
    origin: Tensor


class ShiftThreat(Threat):
    """The world changes; nobody need mean harm.

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

    def __init__(self, *, share: float = 1.0, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.share = share


NULL, HELD_OUT, SHIFTED = "null", "held_out", "shifted"
LEVELS = torch.linspace(0, 1, 21).tolist()


class Monitoring:
    """One play of the deployment setting on its surface ``batches``.

    Args:
        model: the deployed classifier; seconds: that its training took.
        setting: its sizes and its way of training.
    """

    def __init__(self, context: CellContext, model: nn.Module, seconds: float, setting: Deployment) -> None:
        self.context, self.model, self.seconds, self.setting = context, model, seconds, setting
        assert isinstance(context.threat, ShiftThreat)
        self.threat: ShiftThreat = context.threat

    def play(self) -> Outcome:
        context, test = self.context, self.context.data.test
        surface = self._observe()
        guess = self.threat(surface, seed=context.seed)
        if not isinstance(guess, ShiftedInputs):
            raise TypeError(f"deployment cannot score a {type(guess).__name__} on batches.")
        batches = {
            NULL: self._draw(test.x, NULL),
            HELD_OUT: self._draw(test.x, HELD_OUT),
            SHIFTED: self._mix(guess.x, test.x),
        }
        outcome = Outcome(
            cost={"seconds": self.seconds}, diagnostics={**guess.diagnostics, "batch": self.setting.batch}
        )
        alarms = self._judge(outcome, batches)
        clean = predict(self.model, test.x)
        outcome.utility["test_accuracy"] = accuracy(clean, test.y) * (1 - alarms)
        self._harm(outcome, clean, predict(self.model, guess.x), surface.y[guess.origin])
        if len(context.data.shape) == 3:
            outcome.picture("shift", {"usual": surface.x[guess.origin], "shifted": guess.x})
        return outcome

    def _observe(self) -> WorldSurface:
        data = self.context.data
        world = data.shifted if self.threat.population == "shifted" else data.test
        assert world is not None, "the threat needs dataset.shift=natural"
        return WorldSurface(
            x=world.x,
            y=world.y,
            usual=data.calibration.x,
            model=self.model,
            published=self.context.defense.facts(),
        )

    # -- batches ---------------------------------------------------------------------------------------------
    def _draw(self, x: Tensor, group: str) -> Tensor:
        """``draws`` batches, each without replacement, (draws, batch, ...)."""
        size, draws = self.setting.batch, self.setting.draws
        if size > len(x):
            raise ConfigError(
                f"setting.batch asks for {size} inputs, but there are {len(x)} {group} ones to draw from; lower it or "
                "raise dataset.sizes.test."
            )
        rng = self.context.rng(f"monitoring.{group}")
        return x[torch.stack([torch.randperm(len(x), generator=rng)[:size] for _ in range(draws)]).to(x.device)]

    def _mix(self, shifted: Tensor, usual: Tensor) -> Tensor:
        """Batches of which a ``share`` (at least one input) is shifted."""
        batches = self._draw(shifted, SHIFTED)
        count = max(1, round(self.threat.share * self.setting.batch))
        if count < self.setting.batch:
            batches[:, count:] = self._draw(usual, "usual")[:, count:]
        return batches

    # -- judging ---------------------------------------------------------------------------------------------
    def _judge(self, outcome: Outcome, batches: dict[str, Tensor]) -> float:
        """Fill in risk and diagnostics; give the share of held-out usual batches that raise the alarm."""
        if not self.context.defense.overrides("screen_batches"):  # nobody watches
            outcome.risk["missed"] = 1.0
            return 0.0
        started = time.perf_counter()
        detectors = {group: self._detector_context(group) for group in batches}
        evidence = {group: self.context.defense.screen_batches(batches[group], detectors[group]) for group in batches}
        saved = sum(detector.saved for detector in detectors.values())
        outcome.cost["seconds"] += time.perf_counter() - started + saved
        suspicion = suspicions(evidence)
        level = self.setting.false_alarm_rate
        measured = power(suspicion[SHIFTED], suspicion[NULL], suspicion[HELD_OUT], level)
        outcome.risk["missed"] = 1 - measured["power"]
        outcome.diagnostics |= measured
        for group in (NULL, SHIFTED):
            outcome.diagnostics[f"suspicion_{group}"] = suspicion[group].double().mean().item()
        outcome.curves["power_at_level"] = [
            power(suspicion[SHIFTED], suspicion[NULL], suspicion[HELD_OUT], at)["power"] for at in LEVELS
        ]
        return measured["held_out_false_alarms"]

    def _detector_context(self, group: str) -> DetectorContext:
        context, setting = self.context, self.setting
        own = ["defense"] if context.defense.overrides("fit") else []
        parts = ("dataset", "model", "setting", "scale", *own, *(["threat"] if group == SHIFTED else []))

        def member(index: int) -> nn.Module:
            purpose = f"monitoring.member{index}"

            def build(module: nn.Module) -> nn.Module:
                return setting.fitting(context.rng(f"{purpose}.batches"))(
                    module, context.data.owner.x, context.data.owner.y
                )

            key = (purpose, "dataset", "model", "setting", "scale")
            return context.trained(key, build, purpose=f"{purpose}.init").requires_grad_(False)

        def learn(module: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> nn.Module:
            return setting.fitting(rng)(module, x, y)

        def recall(name: str, build: Callable[[], Artifact]) -> Artifact:
            return context.cache((f"{name}.{group}", *parts), build)

        return DetectorContext(
            model=self.model,
            train=context.data.owner,
            validation=context.data.calibration,
            num_classes=context.data.num_classes,
            seed=derive(context.seed, f"monitoring.detector.{group}"),
            member=member,
            fresh=lambda num_classes: context.fresh_model("monitoring.fresh", num_classes=num_classes),
            learn=learn,
            recall=recall,
        )

    # -- harm ------------------------------------------------------------------------------------------------
    def _harm(self, outcome: Outcome, clean: Tensor, shifted: Tensor, labels: Tensor) -> None:
        """What the shift costs an unwatched classifier: accuracy, and AUC where there are two classes."""
        test, share = self.context.data.test, self.threat.share
        before, after = accuracy(clean, test.y), accuracy(shifted, labels)
        outcome.risk["accuracy_drop"] = share * (before - after)
        outcome.diagnostics |= {"accuracy_usual": before, "accuracy_shifted": share * after + (1 - share) * before}
        if clean.shape[1] == 2 and 0 < labels.double().mean() < 1:
            outcome.diagnostics["auc_usual"] = auc(clean[:, 1] - clean[:, 0], test.y)
            outcome.diagnostics["auc_shifted"] = auc(shifted[:, 1] - shifted[:, 0], labels)


def suspicions(evidence: dict[str, Tensor]) -> dict[str, Tensor]:
    """One number a batch. Evidence for each input, (q, n), is compared with that of all usual batches but itself."""
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
