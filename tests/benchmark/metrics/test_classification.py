"""Classification measures against closed forms and scikit-learn."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from benchmark.metrics.classification import accuracy, attack_success, auc, ber, label_overlap, tpr_at_fpr


def test_accuracy_takes_logits_or_labels():
    logits = torch.tensor([[0.1, 2.0], [3.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    y = torch.tensor([1, 0, 0, 1])
    assert accuracy(logits, y) == accuracy(torch.tensor([1, 0, 1, 1]), y) == 0.75


def test_attack_success_is_the_share_that_hits_the_target():
    assert attack_success(torch.tensor([1, 2, 3, 3]), torch.tensor([3, 3, 3, 3])) == 0.5


@pytest.mark.parametrize(
    ("guess", "labels", "share"),
    [([1, 2, 3], [3, 1, 2], 1.0), ([0, 0, 0, 0], [0, 0, 1, 2], 0.5), ([9, 9], [0, 1], 0.0), ([1, 2], [1, 1], 0.5)],
)
def test_label_overlap_is_the_intersection_of_multisets(guess, labels, share):
    assert label_overlap(torch.tensor(guess), torch.tensor(labels)) == share


def test_auc_is_the_chance_that_a_positive_outranks_a_negative():
    rng = torch.Generator().manual_seed(0)
    scores, positive = torch.randn(200, generator=rng).round(decimals=1), torch.rand(200, generator=rng) < 0.3
    inside, outside = scores[positive][:, None], scores[~positive][None]
    wins = (inside > outside).double() + 0.5 * (inside == outside).double()
    assert auc(scores, positive) == pytest.approx(wins.mean().item())
    assert auc(-scores, positive) == pytest.approx(1 - auc(scores, positive))


def test_tpr_at_fpr_keeps_the_false_positive_rate():
    positive = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0])
    scores = torch.tensor([0.9, 0.8, 0.6, 0.4, 0.7, 0.5, 0.3, 0.2])
    assert tpr_at_fpr(scores, positive, 0.0) == 0.5
    assert tpr_at_fpr(scores, positive, 0.24) == 0.5  # no interpolation towards 0.25
    assert tpr_at_fpr(scores, positive, 0.25) == 0.75
    assert tpr_at_fpr(scores, positive, 1.0) == 1.0


def test_roc_measures_refuse_a_single_group():
    for measure in (auc, lambda s, p: tpr_at_fpr(s, p, 0.1)):
        with pytest.raises(ValueError, match="positive and negative"):
            measure(torch.rand(5), torch.ones(5))


def test_ber_weighs_classes_alike():
    y = torch.tensor([0] * 9 + [1])
    assert ber(torch.zeros(10, dtype=torch.int64), y) == 0.5
    assert ber(y, y) == 0.0
    rng = torch.Generator().manual_seed(0)
    y, predicted = torch.randint(3, (100,), generator=rng), torch.randint(3, (100,), generator=rng)
    assert ber(predicted, y) == pytest.approx(1 - balanced_accuracy_score(y, predicted))
