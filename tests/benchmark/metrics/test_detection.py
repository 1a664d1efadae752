"""Power and false alarms against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from benchmark.metrics.detection import ks_suspicion, p_values, power, telling_apart, threshold
from benchmark.metrics.evasion import by_decade, distortion, effort, log10_sensitivity, sensitivity


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


# -- evasion
def test_distortion_of_known_changes():
    clean = torch.zeros(2, 1, 2, 2)
    altered = torch.tensor([[[[0.3, 0.4], [0.0, 0.0]]], [[[0.0, 1e-8], [0.0, 0.0]]]])
    measured = distortion(clean, altered)
    assert measured["features_changed"].tolist() == [0.5, 0.0]
    assert measured["l2"].tolist() == pytest.approx([0.5, 0.0], abs=1e-6)
    assert measured["linf"].tolist() == pytest.approx([0.4, 0.0], abs=1e-6)


def test_effort_takes_distances_from_successes_and_bounds_what_a_failure_leaves_open():
    clean = torch.zeros(5, 1, 1, 4)
    altered = clean.clone()
    altered[0, 0, 0, 0], altered[1, 0, 0, :2], altered[2, 0, 0, 0], altered[3, 0, 0, :3] = 1.0, 1.0, 0.5, 1.0
    succeeded = torch.tensor([True, True, True, False, False])  # one ran out of budget, one never began
    spent = effort(clean, altered, succeeded, victim=torch.tensor([0, 0, 1, 1, 1]), radius=1.0)
    assert spent["rho_adv_least"] == pytest.approx((0.25 + 0.5 + 0.25 + 0.75 + 0) / 5)
    assert spent["rho_adv_most"] == pytest.approx((0.25 + 0.5 + 0.25 + 1 + 1) / 5)
    assert spent["features_changed"] == pytest.approx(1 / 3)
    assert spent["within_radius"] == pytest.approx(2 / 5)
    assert spent["median_l2"] == 1
    assert spent["l2_best_target"] == pytest.approx((1 + 0.5) / 2)
    assert spent["l2_worst_target"] == pytest.approx((2**0.5 + 0.5) / 2)


def test_effort_of_attacks_that_all_stalled_bounds_nothing():
    clean = torch.zeros(2, 3)
    spent = effort(clean, clean, torch.zeros(2, dtype=torch.bool), torch.arange(2), radius=1.0)
    assert spent == {"rho_adv_least": 0, "rho_adv_most": 1, "within_radius": 0}


def test_decades_hold_every_amplitude_once():
    amplitudes = torch.tensor([5.0, 0.5, 0.1, 0.05, 0.02, 1e-60, 0.0], dtype=torch.float64)
    assert by_decade(amplitudes.log10(), decades=4) == pytest.approx([3 / 7, 2 / 7, 0, 2 / 7])


def test_sensitivity_of_a_linear_model_is_the_softmax_jacobian_in_closed_form():
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p = (x @ weight.T).softmax(dim=1)
    jacobian = torch.stack([(torch.diag(row) - torch.outer(row, row)) @ weight for row in p])
    torch.testing.assert_close(sensitivity(lambda x: x @ weight.T, x), jacobian.abs().mean(dim=(1, 2)))


def test_larger_logits_hide_the_gradient_in_float32():
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(1))
    plain, saturated = (sensitivity(lambda x, k=k: k * (x @ weight.T), x).mean() for k in (1, 1000))
    assert plain > 0.01
    assert saturated < 1e-20


def test_log10_sensitivity_is_the_logarithm_of_the_sensitivity():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 7), torch.nn.Tanh(), torch.nn.Linear(7, 4))
    x = torch.rand(6, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log10_sensitivity(network.double(), x), sensitivity(network, x).log10())


def test_log10_sensitivity_does_not_underflow_where_the_softmax_does():
    """Two classes with logits (s x, 0) and x in R: both outputs have the derivative s e^(-s x) up to e^(-2 s x)."""
    x, steep = torch.tensor([[1.0], [2.5]], dtype=torch.float64), 5000.0

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([steep * x, torch.zeros_like(x)], dim=1)

    assert (sensitivity(model, x) == 0).all()
    expected = math.log10(steep) - steep * x.flatten() / math.log(10)
    torch.testing.assert_close(log10_sensitivity(model, x), expected)
    assert (log10_sensitivity(lambda x: 0 * model(x), x) == -math.inf).all()
