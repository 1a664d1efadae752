import pytest
import torch

from benchmark.metrics.attributes import attack_ber, leak, majority_share, score_attributes


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
