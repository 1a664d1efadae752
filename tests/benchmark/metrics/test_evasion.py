import pytest
import torch

from benchmark.metrics.evasion import by_decade, distortion, effort, sensitivity


def test_distortion_of_known_changes():
    clean = torch.zeros(2, 1, 2, 2)
    altered = torch.tensor([[[[0.3, 0.4], [0.0, 0.0]]], [[[0.0, 1e-8], [0.0, 0.0]]]])
    measured = distortion(clean, altered)
    assert measured["features_changed"].tolist() == [0.5, 0.0]
    assert measured["l2"].tolist() == pytest.approx([0.5, 0.0], abs=1e-6)
    assert measured["linf"].tolist() == pytest.approx([0.4, 0.0], abs=1e-6)


def test_effort_counts_a_failure_as_a_change_of_everything():
    clean = torch.zeros(4, 1, 1, 4)
    altered = clean.clone()
    altered[0, 0, 0, 0], altered[1, 0, 0, :2], altered[2, 0, 0, 0] = 1.0, 1.0, 0.5
    succeeded = torch.tensor([True, True, True, False])
    spent = effort(clean, altered, succeeded, victim=torch.tensor([0, 0, 1, 1]), radius=1.0)
    assert spent["rho_adv"] == pytest.approx((0.25 + 0.5 + 0.25 + 1) / 4)
    assert spent["features_changed"] == pytest.approx(1 / 3)
    assert spent["within_radius"] == 0.5
    assert spent["median_l2"] == 1
    assert spent["l2_best_target"] == pytest.approx((1 + 0.5) / 2)
    assert spent["l2_worst_target"] == pytest.approx((2**0.5 + 0.5) / 2)


def test_effort_of_attacks_that_all_failed_has_no_distances():
    clean = torch.zeros(2, 3)
    spent = effort(clean, clean, torch.zeros(2, dtype=torch.bool), torch.arange(2), radius=1.0)
    assert spent == {"rho_adv": 1, "within_radius": 0}


def test_decades_hold_every_amplitude_once():
    shares = by_decade(torch.tensor([5.0, 0.5, 0.05, 0.02, 1e-60, 0.0]), decades=4)
    assert shares == pytest.approx([2 / 6, 2 / 6, 0, 2 / 6])


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
