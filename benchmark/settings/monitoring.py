"""Batches arrive at a deployed classifier, some from a shifted population; a detector judges each batch.

The alarm is set on batches of unseen usual inputs so that at most ``false_alarm_rate`` of them raise it, and false
alarms are counted again on further such batches. Where the test part is small (119 patients) all these batches overlap,
and their spread over draws is smaller than it would be over hospitals.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy, auc
from benchmark.metrics.detection import ks_suspicion, power
from benchmark.outcome import Outcome
from benchmark.seeds import derive
from benchmark.settings.base import Artifact, Stage
from benchmark.settings.monitoring_surfaces import ShiftedInputs, ShiftThreat, Watch, WorldSurface
from benchmark.training.loop import predict

if TYPE_CHECKING:
    from benchmark.settings.deployment import Deployment

NULL, HELD_OUT, SHIFTED = "null", "held_out", "shifted"
LEVELS = torch.linspace(0, 1, 21).tolist()


class Monitoring:
    """One play of the deployment setting on its surface ``batches``.

    Args:
        model: the deployed classifier; seconds: that its training took.
        setting: its sizes and its way of training.
    """

    def __init__(self, stage: Stage, model: nn.Module, seconds: float, setting: Deployment) -> None:
        self.stage, self.model, self.seconds, self.setting = stage, model, seconds, setting
        assert isinstance(stage.threat, ShiftThreat)
        self.threat: ShiftThreat = stage.threat

    def play(self) -> Outcome:
        stage, test = self.stage, self.stage.data.test
        surface = self._observe()
        guess = self.threat(surface, seed=stage.seed)
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
        if len(stage.data.shape) == 3:
            outcome.picture("shift", {"usual": surface.x[guess.origin], "shifted": guess.x})
        return outcome

    def _observe(self) -> WorldSurface:
        data = self.stage.data
        world = data.shifted if self.threat.population == "shifted" else data.test
        assert world is not None, "the threat needs dataset.shift=natural"
        return WorldSurface(
            x=world.x,
            y=world.y,
            usual=data.calibration.x,
            model=self.model,
            published=self.stage.defense.facts(),
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
        rng = self.stage.rng(f"monitoring.{group}")
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
        if not self.stage.defense.overrides("screen_batches"):  # nobody watches
            outcome.risk["missed"] = 1.0
            return 0.0
        started = time.perf_counter()
        watches = {group: self._watch(group) for group in batches}
        evidence = {group: self.stage.defense.screen_batches(batches[group], watches[group]) for group in batches}
        saved = sum(watch.saved for watch in watches.values())
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

    def _watch(self, group: str) -> Watch:
        stage, setting = self.stage, self.setting
        own = ["defense"] if stage.defense.overrides("fit") else []
        parts = ("dataset", "model", "setting", "scale", *own, *(["threat"] if group == SHIFTED else []))

        def member(index: int) -> nn.Module:
            purpose = f"monitoring.member{index}"

            def build(module: nn.Module) -> nn.Module:
                return setting.fitting(stage.rng(f"{purpose}.batches"))(module, stage.data.owner.x, stage.data.owner.y)

            key = (purpose, "dataset", "model", "setting", "scale")
            return stage.trained(key, build, purpose=f"{purpose}.init").requires_grad_(False)

        def learn(module: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> nn.Module:
            return setting.fitting(rng)(module, x, y)

        def recall(name: str, build: Callable[[], Artifact]) -> Artifact:
            return stage.memo((f"{name}.{group}", *parts), build)

        return Watch(
            model=self.model,
            train=stage.data.owner,
            validation=stage.data.calibration,
            num_classes=stage.data.num_classes,
            seed=derive(stage.seed, f"monitoring.detector.{group}"),
            member=member,
            fresh=lambda num_classes: stage.fresh_model("monitoring.fresh", num_classes=num_classes),
            learn=learn,
            recall=recall,
        )

    # -- harm ------------------------------------------------------------------------------------------------
    def _harm(self, outcome: Outcome, clean: Tensor, shifted: Tensor, labels: Tensor) -> None:
        """What the shift costs an unwatched classifier: accuracy, and AUC where there are two classes."""
        test, share = self.stage.data.test, self.threat.share
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
