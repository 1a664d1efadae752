"""Image measures against closed forms and naive implementations."""

import numpy as np
import pytest
import torch

from benchmark.metrics.generated import frechet, nearest, score_class, spread
from benchmark.metrics.images import match, mse, psnr_db, recovered_share, ssim
from benchmark.metrics.reconstruction_risk import Pixels, reconstruction_risk


def naive_ssim(a: np.ndarray, b: np.ndarray, window: int = 7) -> float:
    """Return SSIM by Wang et al. 2004, eq. 13, window by window, with population covariances."""
    values = []
    for channel_a, channel_b in zip(a, b, strict=True):
        for i in range(a.shape[1] - window + 1):
            for j in range(a.shape[2] - window + 1):
                p, q = (c[i : i + window, j : j + window].astype(float).ravel() for c in (channel_a, channel_b))
                covariance = np.cov(p, q, bias=True)
                luminance = (2 * p.mean() * q.mean() + 1e-4) / (p.mean() ** 2 + q.mean() ** 2 + 1e-4)
                rest = (2 * covariance[0, 1] + 9e-4) / (covariance[0, 0] + covariance[1, 1] + 9e-4)
                values.append(luminance * rest)
    return float(np.mean(values))


def test_mse_and_psnr_have_closed_forms():
    truth = torch.zeros(3, 1, 8, 8)
    guess = torch.stack([torch.full((1, 8, 8), v) for v in (1.0, 0.1, 0.0)])
    assert torch.allclose(mse(guess, truth), torch.tensor([1.0, 0.01, 0.0]))
    assert torch.allclose(psnr_db(guess, truth), torch.tensor([0.0, 20.0, 60.0]), atol=1e-4)


def test_psnr_is_capped_for_nearly_perfect_copies():
    truth = torch.full((1, 1, 8, 8), 0.5)
    assert psnr_db(truth + 1e-5, truth).item() == pytest.approx(60)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 9), (1, 7, 7)])
def test_ssim_equals_the_window_by_window_definition(shape):
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand((4, *shape), generator=rng)
    guess = (truth + 0.3 * torch.randn(truth.shape, generator=rng)).clamp(0, 1)
    expected = [naive_ssim(g, t) for g, t in zip(guess.numpy(), truth.numpy(), strict=True)]
    assert ssim(guess, truth).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("side", "window"), [(6, 5), (5, 5), (4, 3), (3, 3)])
def test_ssim_of_small_images_uses_the_largest_odd_window(side, window):
    truth, guess = torch.rand((2, 2, 1, side, side + 1), generator=torch.Generator().manual_seed(side))
    expected = [naive_ssim(g, t, window) for g, t in zip(guess.numpy(), truth.numpy(), strict=True)]
    assert ssim(guess, truth).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_equals_torchmetrics_on_windows_inside_the_image():
    functional = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is a cross-check only")
    truth, guess = torch.rand((2, 3, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    _, full = functional.structural_similarity_index_measure(
        guess, truth, gaussian_kernel=False, kernel_size=7, data_range=1.0, reduction="none", return_full_image=True
    )
    expected = full[..., 3:-3, 3:-3].flatten(1).mean(1)
    assert torch.allclose(ssim(guess, truth), expected, atol=1e-5)


def test_ssim_is_one_for_copies_symmetric_and_differentiable():
    truth, guess = torch.rand((2, 3, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ssim(truth, truth), torch.ones(3))
    assert torch.allclose(ssim(truth, guess), ssim(guess, truth), atol=1e-6)
    guess.requires_grad_()
    ssim(guess, truth).sum().backward()
    assert guess.grad is not None and guess.grad.abs().sum() > 0


def test_ssim_refuses_images_without_a_window():
    with pytest.raises(ValueError, match="at least 3x3"):
        ssim(torch.rand(1, 1, 2, 9), torch.rand(1, 1, 2, 9))


def test_match_undoes_any_permutation():
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand((12, 1, 8, 8), generator=rng)
    for _ in range(5):
        shuffled = truth[torch.randperm(12, generator=rng)]
        assert torch.equal(shuffled[match(shuffled, truth)], truth)


def test_match_is_a_permutation_even_where_one_guess_is_nearest_to_all():
    truth = torch.stack([torch.full((1, 4, 4), v) for v in (0.4, 0.5, 0.6)])
    guess = torch.stack([torch.full((1, 4, 4), v) for v in (0.5, 0.0, 1.0)])
    assert match(guess, truth).tolist() == [1, 0, 2]


def test_recovered_share_counts_above_twenty_db():
    assert recovered_share(torch.tensor([20.0, 20.1, 60.0, 5.0])) == 0.5


# -- reconstruction_risk
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


# -- generated
def images(*values: float) -> torch.Tensor:
    """Return one flat grey image of 2x2 pixels a value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def logits_of(labels: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(labels), 3).float()


PRIVATE, HELD_OUT = images(0.0, 0.2), images(0.1, 0.3)


def test_distances_go_to_the_nearest_reference():
    torch.testing.assert_close(nearest(images(0.5), PRIVATE), torch.tensor([0.6], dtype=torch.float64))


def test_real_images_of_the_class_score_one():
    scores = score_class(HELD_OUT, logits_of([1, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["class_recovery"] == scores["asr"] == 1.0
    assert scores["nnr"] == pytest.approx(1.0)
    assert scores["diversity"] == pytest.approx(1.0)
    assert scores["prototype_error"] == pytest.approx(0.01)
    assert scores["record_gap"] > 0  # nearer to the held-out images, which they are


def test_copies_of_private_images_are_told_from_fresh_ones():
    scores = score_class(PRIVATE, logits_of([1, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["nnr"] == 0
    assert scores["record_gap"] < 0


def test_far_images_do_not_count_however_sure_the_judge_is():
    scores = score_class(images(1.0, 1.0), logits_of([1, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["asr"] == 1.0
    assert scores["class_recovery"] == 0
    assert scores["diversity"] == 0


def test_near_images_of_another_class_do_not_count():
    scores = score_class(images(0.0, 0.2), logits_of([0, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["asr"] == scores["class_recovery"] == 0.5


def test_spread_is_the_mean_standard_deviation_of_a_pixel():
    assert spread(images(0.0, 1.0)).item() == pytest.approx(0.5)


def test_frechet_distance_of_gaussians_is_known():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn((20_000, 3), generator=rng)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, 2 * a + 1) == pytest.approx(3 * 1 + 3 * 1, rel=0.05)  # |shift|^2 + sum of (sd difference)^2
