"""Tests of composition: values by scale, which settings count for the key, and errors."""

import pytest

from benchmark.errors import ConfigError
from tests.runners.conftest import FAKE_CELL, composed


@pytest.mark.parametrize(("scale", "risk"), [("smoke", 0.5), ("cpu", 0.6), ("full", 0.7)])
def test_values_follow_the_scale(scale, risk):
    assert composed(*FAKE_CELL, f"scale={scale}").config["threat"]["risk"] == risk


def test_the_key_holds_the_science_alone():
    plain = composed("dataset=mnist").key
    assert composed("dataset=mnist", "dataset.download=true", "threads=2", "store=elsewhere", "device=cpu").key == plain
    assert composed("dataset=mnist", "seed=1").key != plain
    assert composed("dataset=mnist", "setting.parties=9").key != plain


def test_components_carry_their_version():
    cell = composed(*FAKE_CELL, "defense=gradient_noise")
    assert [part["name"] for part in cell.config["defense"]] == ["gradient_noise"]
    assert isinstance(cell.config["defense"][0]["version"], int)
    assert cell.targets()["defense/gradient_noise"].endswith(".gradient_noise.GradientNoise")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1.5", "seed must be a whole number, got 1.5"),
        ("scale.name=huge", "must be one of smoke, cpu, full"),
        ("threat.risk=???", "threat cannot be resolved"),
        ("threat.risk=nan", "must be finite numbers"),
    ],
)
def test_mistakes_are_told(override, message):
    with pytest.raises(ConfigError, match=message):
        composed(*FAKE_CELL, override)
