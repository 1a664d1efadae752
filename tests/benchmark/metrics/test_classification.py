"""Classification measures against closed forms and scikit-learn."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from benchmark.metrics.attributes import attack_ber, leak, majority_share, score_attributes
from benchmark.metrics.classification import accuracy, attack_success, auc, ber, label_overlap, tpr_at_fpr
from benchmark.metrics.fairness import fairness_gaps
from benchmark.metrics.identity import claims, reidentified, score_copies


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


# -- identity
def test_bold_and_timid_claims():
    bold, timid = torch.eye(4), torch.full((4, 4), 0.25)
    assert claims(bold) == {"confident_share": 1, "mean_max_probability": 1, "identity_entropy": 0}
    assert claims(timid) == pytest.approx({"confident_share": 0, "mean_max_probability": 0.25, "identity_entropy": 1})


def test_linkage_counts_ranks_and_ties_are_no_help():
    distances = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    position = torch.tensor([0, 2, 1])
    assert reidentified(distances, position, 1) == pytest.approx(1 / 3)
    assert reidentified(distances, position, 2) == pytest.approx(1 / 3)
    assert reidentified(distances, position, 3) == 1


def test_copies_and_the_share_of_nearer_rows():
    own, others = torch.tensor([0.0, 0.1, 5.0, 5.0]), torch.tensor([1.0, 1.0, 1.0, 5.0])
    risk, notes = score_copies(own, own, others, radius=0.5)
    assert risk == {"copied_share": 0.5, "exact_copy_share": 0.25}
    assert notes["dcr_share"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_fairness_gaps_on_four_people():
    predicted, y = torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, 1])
    gaps = fairness_gaps(predicted, y, torch.tensor([0, 0, 1, 1]))
    assert gaps == pytest.approx({"demographic_parity_gap": 0.5, "tpr_gap": 0.0, "fpr_gap": 1.0, "accuracy_gap": 0.5})
    assert "tpr_gap" not in fairness_gaps(predicted, torch.tensor([1, 0, 0, 0]), torch.tensor([0, 0, 1, 1]))


# -- attributes
def test_a_constant_guess_is_worth_the_majority_and_a_balanced_error_of_chance():
    truth = torch.tensor([0, 0, 0, 1, 2, 2])
    risk, notes = score_attributes({"constant": torch.zeros(6, dtype=torch.int64)}, {}, truth)
    assert risk["attribute_accuracy"] == majority_share(truth) == 0.5
    assert risk["attribute_advantage"] == 0
    assert notes["ber"] == pytest.approx(2 / 3)  # (k - 1) / k


def test_the_strongest_attacker_counts():
    truth = torch.tensor([0, 1, 0, 1])
    guesses = {"good": truth, "bad": 1 - truth, "none": torch.zeros(4, dtype=torch.int64)}
    risk, notes = score_attributes(guesses, {"good": truth.double(), "bad": 1 - truth.double()}, truth)
    assert risk["attribute_accuracy"] == 1 and risk["attribute_auc"] == 1
    assert notes["strongest_attacker"] == "good" and notes["attribute_accuracy_bad"] == 0


def test_who_is_always_wrong_on_two_values_may_turn_round():
    truth = torch.tensor([0, 1, 0, 1])
    assert attack_ber(1 - truth, truth) == 0
    assert attack_ber(torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2])) == 1


def test_only_what_members_lose_beyond_others_is_a_leak():
    truth, members = torch.tensor([0, 1, 0, 1]), torch.tensor([True, True, False, False])
    imputed = {"a": torch.tensor([0, 1, 0, 1])}
    memorised = {"a": torch.tensor([0, 1, 1, 0])}
    assert leak(imputed, truth, members) == 0
    assert leak(imputed | {"b": memorised["a"]}, truth, members) == 1
