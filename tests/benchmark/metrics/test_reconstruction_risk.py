import pytest
import torch

from benchmark.metrics.reconstruction_risk import Pixels, reconstruction_risk

WHITE = Pixels(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))


def test_it_is_a_ratio_of_distances_under_a_white_covariance():
    x, guess = torch.tensor([[3.0, 4.0, 0.0, 0.0]]), torch.tensor([[3.0, 3.0, 0.0, 0.0]])
    assert reconstruction_risk(x, guess, WHITE).item() == pytest.approx(5)


def test_the_mean_image_scores_one_and_a_copy_the_cap():
    x = torch.rand(50, 1, 3, 3)
    pixels = Pixels.of(x)
    mean = pixels.mean.view(1, 1, 3, 3).expand_as(x)
    assert torch.allclose(reconstruction_risk(x, mean, pixels, ridge=1e-2), torch.ones(50, dtype=torch.float64))
    assert reconstruction_risk(x, x, pixels, ridge=1e-2).sub(100).abs().max() < 1e-6


def test_it_matches_the_formula_with_inverse_matrices():
    torch.manual_seed(0)
    x, guess = torch.rand(30, 5), torch.rand(30, 5)
    pixels = Pixels.of(x)
    a, b = x.double() - pixels.mean, x.double() - guess.double()
    for inverse, options in (
        (torch.linalg.inv(pixels.covariance + 0.01 * torch.eye(5)), {"ridge": 0.01}),
        (torch.linalg.pinv(pixels.covariance), {}),
    ):
        expected = ((a @ inverse * a).sum(1) / (b @ inverse * b).sum(1)).sqrt()
        assert torch.allclose(reconstruction_risk(x, guess, pixels, **options), expected)


def test_constant_pixels_are_cut_from_the_pseudo_inverse():
    x = torch.rand(30, 5)
    x[:, 0] = 0.5
    guess = x.clone()
    guess[:, 0] += 0.3
    guess[:, 1] += 0.1
    same = guess.clone()
    same[:, 0] = 0.5
    pixels = Pixels.of(x)
    assert torch.allclose(reconstruction_risk(x, guess, pixels), reconstruction_risk(x, same, pixels))
    assert (reconstruction_risk(x, guess, pixels, ridge=1e-2) < reconstruction_risk(x, same, pixels, ridge=1e-2)).all()


def test_a_larger_cut_uses_fewer_directions():
    covariance = torch.diag(torch.tensor([1.0, 1.0, 1e-3, 1e-3], dtype=torch.float64))
    pixels = Pixels(torch.zeros(4, dtype=torch.float64), covariance)
    x, guess = torch.tensor([[1.0, 0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.0, 1.0, 0.0]])
    assert reconstruction_risk(x, guess, pixels, rtol=1e-2).item() == pytest.approx(2)
    assert reconstruction_risk(x, guess, pixels).item() > 50


def test_a_subspace_leaves_out_directions_that_hardly_vary():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn((200, 3), generator=rng) * torch.tensor([1.0, 0.5, 1e-3])
    guess = x + torch.tensor([0.0, 0.0, 0.5])
    pixels = Pixels.of(x)
    assert reconstruction_risk(x, guess, pixels, variance=0.99).mean() > 10
    assert reconstruction_risk(x, guess, pixels).mean() < 0.1
