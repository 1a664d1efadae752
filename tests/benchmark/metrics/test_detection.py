"""Power and false alarms against closed forms."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from benchmark.metrics.detection import ks_suspicion, p_values, power, telling_apart, threshold


def test_power_of_two_normals_one_deviation_apart() -> None:
    rng = torch.Generator().manual_seed(0)
    null, held_out, shifted = (torch.randn(20_000, generator=rng) for _ in range(3))
    measured = power(shifted + 1, null, held_out, 0.05)
    assert measured["power"] == pytest.approx(1 - norm.cdf(norm.ppf(0.95) - 1), abs=0.01)
    assert measured["auc"] == pytest.approx(norm.cdf(2**-0.5), abs=0.01)
    assert measured["false_alarms"] <= 0.05
    assert measured["held_out_false_alarms"] == pytest.approx(0.05, abs=0.005)


def test_ties_do_not_raise_the_alarm() -> None:
    constant = torch.ones(20)
    measured = power(constant, constant, constant, 0.05)
    assert measured["power"] == measured["false_alarms"] == 0
    assert measured["auc"] == 0.5 and measured["p_value"] == 1


@pytest.mark.parametrize(("level", "alarm"), [(0.0, 20.0), (0.05, 19.0), (0.1, 18.0), (1.0, 1.0)])
def test_the_alarm_lets_at_most_the_level_pass(level: float, alarm: float) -> None:
    null = torch.arange(1.0, 21.0)
    assert threshold(null, level) == alarm
    assert (null > alarm).double().mean() <= level


def test_p_values_of_a_known_rank() -> None:
    assert p_values(torch.tensor([5.0, 0.0, 2.5]), torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [0.2, 1.0, 0.6]


def test_ks_suspicion_grows_with_distance_and_is_zero_for_equal_samples() -> None:
    sample = torch.linspace(0, 1, 30)
    assert ks_suspicion(sample, sample) == pytest.approx(0)
    assert ks_suspicion(sample + 0.3, sample) < ks_suspicion(sample + 2, sample)


def test_telling_apart_reports_both_rates():
    found = telling_apart(torch.tensor([1.0, 5.0]), torch.tensor([6.0, 7.0]), torch.arange(4.0), 0.2)
    assert found == {
        "detection_power": 1,
        "false_alarm_rate": 0.5,
        "detection_auc": 1,
        "detection_tpr_at_5_fpr": 1,
    }
