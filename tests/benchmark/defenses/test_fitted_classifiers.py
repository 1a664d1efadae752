"""Defenses that change how a deployed classifier is trained."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.defenses.deployment.adversarial_training import AdversarialTraining
from benchmark.defenses.deployment.logit_scaling import LogitScaling
from benchmark.defenses.none import NoDefense
from benchmark.errors import ConfigError
from benchmark.settings.deployment.setting import Deployment
from benchmark.threats.evasion.gradient_steps import PGD
from benchmark.training import adversarial
from benchmark.training.loop import train
from tests.benchmark.helpers import TinyMLP, context, digits_like


def fit(defense, epochs=3):
    torch.manual_seed(0)
    model, data = TinyMLP(), digits_like(60)
    loop = partial(train, epochs=epochs, rng=torch.Generator().manual_seed(0), lr=3e-3)
    return defense.fit(lambda: model, data, loop), data


def test_scaling_multiplies_logits_and_nothing_else():
    (plain, data), (scaled, _) = fit(NoDefense()), fit(LogitScaling(factor=100.0))
    torch.testing.assert_close(scaled(data.x), 100 * plain(data.x), rtol=1e-4, atol=1e-4)
    assert LogitScaling(factor=100.0).facts() == {"temperature": 100.0}


def test_the_worst_inputs_stay_in_the_box_and_raise_the_loss():
    model, data = fit(NoDefense(), epochs=60)
    altered = adversarial.worst_inputs(model, data.x, data.y, eps=0.1, steps=5, step_size=0.03)
    assert (altered - data.x).abs().max() <= 0.1 + 1e-6
    assert altered.min() >= 0 and altered.max() <= 1
    assert F.cross_entropy(model(altered), data.y) > 1.5 * F.cross_entropy(model(data.x), data.y)


def test_the_loop_learns_from_altered_inputs(monkeypatch):
    seen, worst_inputs = [], adversarial.worst_inputs

    def noting(model, x, y, **box):
        seen.append((x, y))
        return worst_inputs(model, x, y, **box)

    monkeypatch.setattr(adversarial, "worst_inputs", noting)
    model, data = fit(AdversarialTraining(eps=0.1, steps=1, step_size=0.1), epochs=1)
    assert isinstance(model, nn.Module) and not model.training
    assert torch.cat([y for _, y in seen]).bincount().tolist() == data.y.bincount().tolist()


def test_adversarial_training_withstands_what_it_was_trained_for():
    setting = Deployment(
        epochs=12, lr=3e-3, victims=20, targets=1, false_alarm_rate=0.05, radius=1.0, batch=20, draws=20
    )
    attack = PGD(loss="margin", eps=0.2, steps=15, step_size=0.03, random_start=False, adaptive=True)
    bare, trained = (
        setting.play(context(attack, defense)).risk["error_rate"]
        for defense in (NoDefense(), AdversarialTraining(eps=0.2, steps=3, step_size=0.1))
    )
    assert trained < bare - 0.1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LogitScaling(factor=0.0), "factor must be above 0"),
        (lambda: AdversarialTraining(eps=0.0, steps=1, step_size=0.1), "eps must be above 0"),
        (lambda: AdversarialTraining(eps=0.1, steps=0, step_size=0.1), "steps must be a whole number of at least 1"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
