from dataclasses import replace

import pytest
import torch

from benchmark.errors import ConfigError
from benchmark.settings.deployment.setting import Deployment
from benchmark.threats.evasion.controls import RandomFeatures, Replace
from tests.benchmark.helpers import context


def play(threat, cell=None):
    setting = Deployment(
        epochs=8, lr=3e-3, victims=8, targets=None, false_alarm_rate=0.05, radius=1.0, batch=20, draws=20
    )
    return setting.play(cell or context(threat))


def test_the_controls_bound_the_success():
    blind, other = play(RandomFeatures(theta=1.0, gamma=0.25)), play(Replace())
    assert blind.risk["attack_success"] < 0.2
    assert other.risk["attack_success"] == 1


@pytest.mark.parametrize("theta", [1.0, -1.0])
def test_the_negative_control_changes_as_many_features_as_it_says(theta):
    class Spy(RandomFeatures):
        def attack(self, surface, rng):
            self.guess = super().attack(surface, rng)
            self.clean = surface.x
            return self.guess

    threat = Spy(theta=theta, gamma=0.25)
    play(threat)
    free = (threat.clean < 1 if theta > 0 else threat.clean > 0).flatten(1).sum(dim=1)
    changed = (threat.guess.x != threat.clean).flatten(1).sum(dim=1)
    assert torch.equal(changed, free.clamp_max(16))
    assert not threat.guess.stalled.any()


def test_the_positive_control_needs_own_samples():
    cell = context(Replace())
    with pytest.raises(ConfigError, match="dataset.sizes.attacker"):
        play(None, replace(cell, data=replace(cell.data, attacker=cell.data.attacker[:0])))
