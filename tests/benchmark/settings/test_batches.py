"""Batches of a shifted world: who is watched, what counts as missed, and that detectors see no labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial

import pytest
import torch
from torch import Tensor

from benchmark.cell import Cell, play
from benchmark.data.digits import Digits
from benchmark.defenses.deployment.bbsd import BBSD
from benchmark.defenses.deployment.ctst import CTST
from benchmark.defenses.deployment.deep_ensemble import DeepEnsemble
from benchmark.defenses.deployment.detectron import Detectron
from benchmark.defenses.deployment.h_divergence import HDivergence
from benchmark.defenses.deployment.mmd_d import MMDD, mmd
from benchmark.defenses.deployment.relative_mahalanobis import RelativeMahalanobis
from benchmark.defenses.none import NoDefense
from benchmark.errors import ConfigError
from benchmark.models.mlp import MLP
from benchmark.outcome import Outcome
from benchmark.settings.base import Artifact, ArtifactCache
from benchmark.settings.defense import Defense
from benchmark.settings.deployment.games.batches import DetectorContext, ShiftThreat, suspicions
from benchmark.settings.deployment.setting import Deployment
from benchmark.threats.shift.controls import NoShift, Shuffled
from benchmark.threats.shift.corruption import Darker, RotationNoise
from benchmark.threats.shift.evasive import Evasive
from tests.benchmark.helpers import kept

KEPT: dict[tuple[str, ...], Artifact] = {}
SIZES = {"owner": 400, "attacker": 0, "public": 0, "calibration": 150, "test": 300}
HARM = partial(RotationNoise, share=1.0, degrees=25, noise=0.2)


def watched(
    defense: Defense,
    threat: ShiftThreat,
    *,
    batch: int = 20,
    draws: int = 10,
    usual_draws: int | None = None,
    cache: ArtifactCache | None = None,
) -> Outcome:
    setting = Deployment(
        epochs=15,
        lr=3e-3,
        victims=1,
        targets=None,
        false_alarm_rate=0.1,
        radius=1.0,
        batch=batch,
        draws=draws,
        usual_draws=usual_draws,
    )
    model = partial(MLP, hidden=[64], activation="relu")
    cell = Cell(Digits(sizes=SIZES), model, setting, threat, [defense], seed=0)
    together = kept(KEPT, setting=(batch, draws, usual_draws), threat=threat, defense=defense)
    return play(cell, cache=cache or together)[0]


def detectron(test: str = "disagreement") -> Detectron:
    return Detectron(test=test, ensemble=2, patience=2, epochs=3, lr=3e-3, batch_size=128, tolerance=0.05)


DETECTORS: dict[str, Callable[[], Defense]] = {
    "disagreement": detectron,
    "entropy": partial(detectron, "entropy"),
    "bbsd": partial(BBSD, outputs="softmax"),
    "mahalanobis": RelativeMahalanobis,
    "ensemble": partial(DeepEnsemble, test="disagreement", members=2),
    "ensemble entropy": partial(DeepEnsemble, test="entropy", members=2),
    "ctst": CTST,
    "mmd": partial(MMDD, steps=10, lr=5e-3, permutations=20),
    "h": partial(HDivergence, components=10),
}


def test_without_a_watcher_all_harm_is_missed() -> None:
    outcome = watched(NoDefense(), HARM())
    assert outcome.risk["missed"] == 1
    assert outcome.risk["accuracy_drop"] > 0.2
    assert outcome.utility["test_accuracy"] == outcome.diagnostics["accuracy_usual"]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_finds_a_gross_shift_and_keeps_its_level(name: str) -> None:
    outcome = watched(DETECTORS[name](), Shuffled())
    unshifted = watched(DETECTORS[name](), NoShift())
    assert outcome.diagnostics["power"] >= 0.5, "five times the level"
    assert outcome.diagnostics["power"] >= unshifted.diagnostics["power"] + 0.4
    assert outcome.diagnostics["false_alarms"] <= 0.1
    assert outcome.utility["test_accuracy"] <= outcome.diagnostics["accuracy_usual"]


def test_no_shift_and_a_benign_one_are_found_less_often_than_harm() -> None:
    harm, benign, none = (
        watched(detectron("entropy"), threat).diagnostics["power"]
        for threat in (HARM(), Darker(share=1.0, factor=0.9), NoShift())
    )
    assert harm >= 0.8 and benign <= harm - 0.4 and none <= 0.4


def test_a_smaller_share_is_harder_to_find() -> None:
    whole, tenth = (watched(BBSD(outputs="softmax"), HARM(share=share)) for share in (1.0, 0.1))
    assert tenth.risk["missed"] > whole.risk["missed"]
    assert tenth.risk["accuracy_drop"] == pytest.approx(0.1 * whole.risk["accuracy_drop"])


@pytest.mark.ci
def test_an_evasive_shift_blinds_the_watcher_of_outputs_and_still_does_harm() -> None:
    plain = watched(BBSD(outputs="logits"), HARM(), usual_draws=60)
    threat = Evasive(share=1.0, degrees=25, noise=0.2, radius=0.2, steps=20)
    evasive = watched(BBSD(outputs="logits"), threat, usual_draws=60)
    assert plain.diagnostics["alarm_is_calibrated"] == evasive.diagnostics["alarm_is_calibrated"] == "yes"
    assert evasive.risk["accuracy_drop"] > 0.2
    assert evasive.risk["missed"] >= plain.risk["missed"] + 0.3


def test_both_tests_of_detectron_train_their_copies_once() -> None:
    kept: dict[tuple[str, ...], dict[str, Tensor]] = {}
    built: list[str] = []

    def cache(key: tuple[str, ...], build: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if key not in kept:
            built.append(key[0])
            kept[key] = build()
        return kept[key]

    for test in ("disagreement", "entropy"):
        watched(detectron(test), HARM(), draws=3, cache=cache)
    assert sum(name.startswith("detectron") for name in built) == 3  # null, held out, shifted


def test_a_detector_gets_no_labels_of_the_batches() -> None:
    assert {field.name for field in fields(DetectorContext)} == {
        *("model", "train", "validation", "num_classes", "seed", "member", "fresh", "learn", "recall", "saved")
    }


def test_evidence_of_inputs_is_compared_without_the_batch_itself() -> None:
    null = torch.stack([torch.zeros(10), torch.zeros(10), torch.ones(10)])
    judged = suspicions({"null": null, "shifted": torch.ones(1, 10)})
    assert judged["null"][2] > judged["null"][0]
    assert judged["shifted"][0] < judged["null"][2], "it may compare with all three"


def test_mmd_of_equal_samples_is_that_of_the_definition() -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gram = (-torch.cdist(x, x).square()).exp()
    size, total = 4, 0.0
    for i in range(size):
        for j in range(size):
            if i != j:
                total += (gram[i, j] + gram[4 + i, 4 + j] - gram[i, 4 + j] - gram[j, 4 + i]).item()
    assert mmd(gram, size)[0].item() == pytest.approx(total / (size * (size - 1)))


def test_too_large_a_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lower it or raise dataset\.sizes\.test"):
        watched(BBSD(outputs="logits"), HARM(), batch=400)


class Scripted(BBSD):
    """Detector with given suspicions in the order null, held out, shifted."""

    def __init__(self, *answers: list[float]) -> None:
        super().__init__()
        self.answers = list(answers)

    def screen_batches(self, batches, context):
        self.seen = [*getattr(self, "seen", []), len(batches)]
        return torch.tensor(self.answers.pop(0), dtype=torch.float64)


def test_usual_batches_may_be_more_than_shifted_ones():
    defense = Scripted([0.0] * 30, [0.0] * 30, [1.0] * 5)
    outcome = watched(defense, HARM(), draws=5, usual_draws=30)
    assert defense.seen == [30, 30, 5]
    assert outcome.risk["missed"] == 0


@pytest.mark.parametrize(("false", "missed", "calibrated"), [(2, 0.0, "yes"), (3, 1.0, "no")])
def test_an_alarm_with_twice_its_false_alarms_catches_nothing(false, missed, calibrated):
    # The allowed share is 0.1: of ten held-out usual batches two may raise the alarm, three not.
    held_out = [1.0] * false + [0.0] * (10 - false)
    outcome = watched(Scripted([0.0] * 10, held_out, [1.0] * 10), HARM())
    assert outcome.diagnostics["held_out_false_alarms"] == pytest.approx(false / 10)
    assert outcome.risk["missed"] == missed
    assert outcome.diagnostics["alarm_is_calibrated"] == calibrated
    assert outcome.diagnostics["power"] == 1, "as it was measured"
