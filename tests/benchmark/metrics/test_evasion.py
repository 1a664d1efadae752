import pytest
import torch

from benchmark.metrics.evasion import distortion, sensitivity


def test_distortion_of_known_changes():
    clean = torch.zeros(2, 1, 2, 2)
    altered = torch.tensor([[[[0.3, 0.4], [0.0, 0.0]]], [[[0.0, 1e-8], [0.0, 0.0]]]])
    measured = distortion(clean, altered)
    assert measured["features_changed"].tolist() == [0.5, 0.0]
    assert measured["l2"].tolist() == pytest.approx([0.5, 0.0], abs=1e-6)
    assert measured["linf"].tolist() == pytest.approx([0.4, 0.0], abs=1e-6)


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
