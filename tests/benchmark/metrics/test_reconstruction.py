"""Matching and scoring of reconstructions."""

import pytest
import torch

from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.settings.threat import Floor, judged
from benchmark.threats.gradient_leakage.dlg import DLG

RNG = torch.Generator().manual_seed(0)
X = torch.rand((4, 3, 1, 8, 8), generator=RNG)
LABELS = torch.tensor([[0, 1, 2], [3, 3, 4], [5, 6, 7], [8, 9, 9]])


def test_a_copy_scores_the_best_of_everything():
    scores, matched = score_reconstruction(X, LABELS, X, LABELS)
    assert scores == pytest.approx(
        {
            "psnr_db": 60,
            "mse": 0,
            "recovered_share": 1,
            "ssim": 1,
            "label_accuracy": 1,
            "nan_samples": 0,
        }
    )
    assert torch.equal(matched, X)


def test_order_within_a_victim_does_not_count():
    shuffled = X[:, [2, 0, 1]]
    scores, matched = score_reconstruction(shuffled, LABELS.flip(1), X, LABELS)
    assert scores["mse"] == 0 and scores["label_accuracy"] == 1
    assert torch.equal(matched, X)


def test_order_between_victims_counts_unless_they_share_a_group():
    swapped, labels = X[[1, 0, 3, 2]], LABELS[[1, 0, 3, 2]]
    apart, _ = score_reconstruction(swapped, labels, X, LABELS)
    assert apart["mse"] > 0.05 and apart["label_accuracy"] == 0
    together, matched = score_reconstruction(swapped, labels, X, LABELS, torch.tensor([7, 7, 2, 2]))
    assert together["mse"] == 0 and together["label_accuracy"] == 1
    assert torch.equal(matched, X)


def test_samples_with_nan_count_as_zero_images():
    broken = X.clone()
    broken[0, 1, 0, 3, 3] = float("nan")
    broken[2, 2, 0, 0, 0] = float("inf")
    scores, matched = score_reconstruction(broken, None, X, LABELS)
    assert scores["nan_samples"] == 2
    assert scores["mse"] == pytest.approx((X[0, 1].square().mean() + X[2, 2].square().mean()).item() / 12)
    assert matched[0, 1].abs().sum() == 0
    assert broken[0, 1].isnan().any(), "the caller's tensor must not change"


def test_only_what_was_guessed_is_scored():
    scores, matched = score_reconstruction(None, LABELS, X, LABELS)
    assert set(scores) == {"label_accuracy"} and matched is None
    scores, _ = score_reconstruction(X, None, X, LABELS)
    assert "label_accuracy" not in scores


def test_tables_have_no_ssim():
    table = torch.rand((2, 3, 5), generator=torch.Generator().manual_seed(1))
    scores, _ = score_reconstruction(table.flip(1), None, table, LABELS[:2])
    assert scores["mse"] == 0 and "ssim" not in scores


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"guessed samples have shape \(4, 2, 1, 8, 8\)"):
        score_reconstruction(X[:, :2], None, X, LABELS)
    with pytest.raises(ValueError, match="guessed labels"):
        score_reconstruction(None, LABELS[:, :2], X, LABELS)


def test_tables_are_judged_by_the_share_of_values_that_are_close():
    truth = torch.full((2, 1, 10), 0.5)
    guess = truth.clone()
    guess[0, 0, :3] += 0.04
    guess[1, 0, :6] -= 0.06
    scores, _ = score_reconstruction(guess, None, truth, LABELS[:2, :1])
    assert scores["values_recovered"] == pytest.approx(14 / 20) and "ssim" not in scores
    assert judged(DLG, "tabular") == ("values_recovered", Floor("values_recovered", DLG.floor.at_least))
    assert judged(DLG, "image") == ("ssim", DLG.floor)
