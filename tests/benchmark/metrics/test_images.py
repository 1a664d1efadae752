"""Image measures against closed forms and naive implementations."""

import numpy as np
import pytest
import torch

from benchmark.metrics.images import match, mse, psnr_db, recovered_share, ssim


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
