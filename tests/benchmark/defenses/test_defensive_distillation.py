from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from benchmark.compatibility import refusal
from benchmark.data.digits import Digits
from benchmark.defenses.deployment.defensive_distillation import DefensiveDistillation
from benchmark.errors import ConfigError
from benchmark.models.convnet import ConvNet
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.deployment.setting import Deployment
from benchmark.settings.stack import UniversalDefense
from benchmark.threats.evasion.jsma import JSMA
from benchmark.threats.gradient_leakage.dlg import DLG
from tests.benchmark.helpers import TinyMLP, context, digits_like, kept

DISTILLED = partial(DefensiveDistillation, warmup_epochs=1, student=True)


class Recorder:
    """Replacement of the training loop that changes every module in a known way and notes how it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, module, x, y, **options):
        self.calls.append((module, {name: t.clone() for name, t in module.state_dict().items()}, y, options))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * len(self.calls)
        return module.eval()


def test_a_warm_up_starts_teacher_and_student_and_the_student_learns_softened_outputs():
    torch.manual_seed(0)
    model, data, train = TinyMLP(), digits_like(20), Recorder()
    student = DISTILLED(temperature=7.0).fit(lambda: model, data, train)
    warm, teacher, last = train.calls
    assert warm[3] == {"epochs": 1}, "at temperature 1, by the loop's own loss"
    assert student is last[0]
    for name in teacher[1]:
        assert torch.equal(teacher[1][name], last[1][name])
        assert not torch.equal(warm[1][name], last[1][name])
    torch.testing.assert_close(last[2], (teacher[0](data.x) / 7).softmax(dim=1))
    assert torch.equal(teacher[2], data.y)


def test_without_a_student_the_teacher_is_deployed():
    model, data, train = TinyMLP(), digits_like(20), Recorder()
    assert DISTILLED(temperature=7.0, student=False).fit(lambda: model, data, train) is train.calls[1][0]
    assert len(train.calls) == 2


def test_the_loss_is_the_cross_entropy_at_the_temperature():
    logits, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    expected = -(logits / 9).log_softmax(dim=1)[torch.arange(5), y].mean()
    torch.testing.assert_close(DISTILLED(temperature=9.0).loss(logits, y), expected)
    soft = torch.rand(5, 4).softmax(dim=1)
    torch.testing.assert_close(
        DISTILLED(temperature=9.0).loss(logits, soft), -(soft * F.log_softmax(logits / 9, dim=1)).sum(dim=1).mean()
    )


def test_it_publishes_its_temperature():
    assert DISTILLED(temperature=20.0).facts() == {"temperature": 20.0}


def jsma(**changes):
    options = {"saliency_on": "probs", "temperature": 1.0, "dtype": "float32", "theta": 1.0, "gamma": 0.25}
    options["candidates"] = None
    return JSMA(**(options | {"adaptive": False} | changes))


@pytest.fixture(scope="module")
def outcomes():
    """Return a smoke cell of real digits: attack -> (without a defense, distilled at 100)."""
    data = Digits(sizes={"owner": 700, "test": 497}).load(None, seed=0)
    setting = Deployment(
        epochs=30, lr=3e-3, victims=8, targets=None, false_alarm_rate=0.05, radius=1.0, batch=20, draws=20
    )
    model = partial(ConvNet, channels=[32, 64], hidden=128, activation="relu")
    attacks = {"jsma": jsma(), "logits": jsma(saliency_on="logits"), "jsma_t": jsma(adaptive=True)}

    def play(defense):
        cache = kept({})
        cells = [context(threat, defense, architecture=model, cache=cache) for threat in attacks.values()]
        return [setting.play(replace(cell, data=data)) for cell in cells]

    bare, distilled = (
        play(UniversalDefense()),
        play(DefensiveDistillation(temperature=100.0, warmup_epochs=10, student=True)),
    )
    return dict(zip(attacks, zip(bare, distilled, strict=True), strict=True))


def success(outcomes, attack):
    return tuple(outcome.risk["attack_success"] for outcome in outcomes[attack])


@pytest.mark.ci
def test_it_stops_the_attack_on_probabilities_by_hiding_the_gradient(outcomes):
    bare, distilled = success(outcomes, "jsma")
    assert bare > 0.5
    assert distilled < 0.5 * bare
    plain, masked = (outcome.diagnostics for outcome in outcomes["jsma"])
    assert masked["mean_abs_gradient"] < 1e-2 * plain["mean_abs_gradient"]
    assert masked["max_abs_logit"] > 10 * plain["max_abs_logit"]
    assert masked["stalled"] > 0.5 > plain["stalled"]


@pytest.mark.ci
def test_dividing_by_its_temperature_breaks_it(outcomes):
    assert success(outcomes, "jsma_t")[1] >= success(outcomes, "jsma")[0] - 0.1


@pytest.mark.ci
def test_the_attack_on_logits_never_noticed_it(outcomes):
    bare, distilled = success(outcomes, "logits")
    assert distilled > 0.5 * bare


@pytest.mark.ci
def test_it_costs_little_accuracy(outcomes):
    bare, distilled = (outcome.utility["test_accuracy"] for outcome in outcomes["jsma"])
    assert distilled > bare - 0.05  # 0.02 in the mean over seeds; a seed's own difference has a spread of 0.01


def test_it_meets_evasion_and_no_threat_on_uploads():
    assert refusal(Deployment, JSMA, [DefensiveDistillation]) is None
    assert "DefensiveDistillation changes fit" in refusal(Collaboration, DLG, [DefensiveDistillation])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"temperature": 0.0}, "temperature must be above 0"), ({"warmup_epochs": -1}, "at least 0")],
)
def test_impossible_parameters_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        DefensiveDistillation(**({"temperature": 2.0, "warmup_epochs": 1, "student": True} | change))
