import math
from functools import cache

import pytest
import torch

from benchmark.metrics.audit import audit, one_run_epsilon, one_run_p_value, right_guesses
from benchmark.metrics.membership import (
    balanced_accuracy,
    best_threshold,
    clopper_pearson,
    dp_ceiling,
    epsilon_lower_bound,
    positive_predictive_value,
    record_aucs,
    score_membership,
    worst_decile,
)

N = 40_000


@pytest.fixture(scope="module")
def gaussians():
    """Return scores in which members lie one standard deviation above non-members."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(2 * N, generator=rng, dtype=torch.float64)
    members = torch.arange(2 * N) % 2 == 0
    return scores + members, members


def test_two_gaussians_one_apart_have_their_closed_forms(gaussians):
    risk, notes = score_membership(*gaussians, threshold=0.5)
    assert risk["attack_auc"] == pytest.approx(0.760, abs=0.005)  # Phi(1 / sqrt 2)
    assert risk["tpr_at_1pct_fpr"] == pytest.approx(0.0924, abs=0.008)  # 1 - Phi(2.326 - 1)
    assert risk["tpr_at_01pct_fpr"] == pytest.approx(0.0183, abs=0.005)  # 1 - Phi(3.090 - 1)
    assert risk["balanced_accuracy"] == pytest.approx(0.6915, abs=0.005)  # Phi(1 / 2)
    assert notes["tpr_at_1pct_fpr_low"] < risk["tpr_at_1pct_fpr"] < notes["tpr_at_1pct_fpr_high"]


def test_ties_do_not_help_the_attacker():
    risk, _ = score_membership(torch.zeros(2000), torch.arange(2000) % 2 == 0, threshold=0.0)
    assert risk["attack_auc"] == 0.5
    assert risk["tpr_at_1pct_fpr"] == 0 and risk["epsilon_lower_bound"] == 0
    assert risk["balanced_accuracy"] == 0.5


@pytest.mark.parametrize("others", [199, 200, 999, 1000])
def test_a_rate_that_so_few_cannot_show_is_left_out_and_says_so(others):
    members = torch.arange(2 * others) % 2 == 0
    risk, notes = score_membership(torch.rand(2 * others), members, threshold=None)
    assert ("tpr_at_5pct_fpr" in risk) == (others >= 200)
    assert ("tpr_at_1pct_fpr" in risk) == (others >= 1000)
    assert f"10000 non-members, not {others}" in notes["tpr_at_01pct_fpr"]
    assert "balanced_accuracy" not in risk
    assert notes["balanced_accuracy_oracle_threshold"] >= 0.5


def test_a_claim_is_judged_only_where_an_attack_that_is_always_right_could_refute_it():
    """Of 50 members and 50 others half set the threshold, so at best 25 in 25 are right on either side."""
    members = torch.arange(100) < 50
    greatest = math.log((0.025 ** (1 / 25)) / (1 - 0.025 ** (1 / 25)))
    for claim, verdict in ((greatest - 0.01, "yes"), (greatest + 0.01, "null")):
        notes = score_membership(members.double(), members, None, (claim, 0.0))[1]
        assert notes["epsilon_lower_bound_greatest"] == pytest.approx(greatest, abs=1e-6)
        assert notes["dp_ceiling_breached"].startswith(verdict)
    assert score_membership(torch.zeros(100), members, None, (1.0, 0.0))[1]["dp_ceiling_breached"] == "no"


def test_scores_that_are_not_finite_still_rank():
    scores = torch.tensor([float("inf"), 1.0, float("-inf"), float("nan")])
    assert score_membership(scores, torch.tensor([True, True, False, False]), None)[0]["attack_auc"] == 1


def test_the_best_threshold_separates_what_can_be_separated():
    ours, theirs = torch.tensor([2.0, 3.0, 4.0]), torch.tensor([0.0, 1.0])
    assert balanced_accuracy(ours, theirs, best_threshold(ours, theirs)) == 1
    assert balanced_accuracy(theirs, ours, best_threshold(theirs, ours)) == 0.5


def test_clopper_pearson_has_its_known_ends():
    assert clopper_pearson(0, 100) == pytest.approx((0, 1 - 0.025 ** (1 / 100)))
    assert clopper_pearson(100, 100) == pytest.approx((0.025 ** (1 / 100), 1))


def test_the_bound_of_epsilon_of_a_perfect_attack_is_that_of_its_intervals():
    bound = epsilon_lower_bound(torch.ones(100), torch.zeros(100), 0.5)
    low, high = 0.025 ** (1 / 100), 1 - 0.025 ** (1 / 100)
    assert bound == pytest.approx(math.log(low / high))
    assert epsilon_lower_bound(torch.zeros(100), torch.zeros(100), 0.5) == 0


def test_randomised_response_stays_below_its_epsilon_as_often_as_promised():
    epsilon, bounds = math.log(3), []  # the truth with probability 3/4
    rng = torch.Generator().manual_seed(0)
    for _ in range(100):
        ours = (torch.rand(5000, generator=rng) < 0.75).double()
        theirs = (torch.rand(5000, generator=rng) < 0.25).double()
        bounds.append(epsilon_lower_bound(ours, theirs, 0.5))
    assert sum(bound > epsilon for bound in bounds) <= 10  # 5 expected at most
    assert min(bounds) > 0.85 * epsilon


def test_the_ceiling_of_a_budget():
    assert dp_ceiling(1.0, 0.0, 0.01) == pytest.approx(0.0272, abs=1e-4)
    assert dp_ceiling(3.0, 0.0, 0.01) == pytest.approx(0.2009, abs=1e-4)
    assert dp_ceiling(10.0, 0.0, 0.01) == pytest.approx(1, abs=1e-4)


def test_a_broken_budget_is_called_so():
    scores, members = torch.cat([torch.ones(500), torch.zeros(500)]), torch.arange(1000) < 500
    assert score_membership(scores, members, 0.5, (1.0, 1e-5))[1]["dp_ceiling_breached"] == "yes"
    assert score_membership(scores * 0, members, 0.5, (1.0, 1e-5))[1]["dp_ceiling_breached"] == "no"


def test_the_worth_of_being_called_a_member():
    assert positive_predictive_value(0.5, 0.01, 0.5) == pytest.approx(0.5 / 0.51)
    assert positive_predictive_value(0.5, 0.01, 0.01) == pytest.approx(0.005 / (0.005 + 0.0099))
    assert positive_predictive_value(0.0, 0.0, 0.5) == 0


def test_the_auc_of_single_records_and_its_worst_decile():
    member = torch.tensor([[True, True, True], [True, False, True], [False, True, True], [False, False, True]])
    scores = torch.tensor([[2.0, 1.0, 0.0], [3.0, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    aucs = record_aucs(scores, member)
    assert aucs[:2].tolist() == [0.875, 0.5] and aucs[2].isnan()
    assert worst_decile(aucs) == 0.875


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 17), (499, 1000), (1, 1)])
@pytest.mark.parametrize("confidence", [0.95, 0.975])
def test_the_interval_of_a_share_is_that_of_the_library(successes, trials, confidence):
    from scipy.stats import binomtest

    theirs = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert clopper_pearson(successes, trials, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-10)


# -- audit
@pytest.mark.parametrize("guesses", [10, 50, 200])
def test_the_bound_of_an_auditor_who_is_always_right_has_its_closed_form(guesses):
    p = 0.05 ** (1 / guesses)
    assert one_run_epsilon(guesses, guesses, guesses) == pytest.approx(math.log(p / (1 - p)), abs=1e-6)


@pytest.mark.parametrize("right", [0, 25, 50])
def test_who_is_right_half_of_the_time_has_shown_nothing(right):
    assert one_run_epsilon(right, 100, 100) == 0


def test_the_numbers_of_the_paper():  # appendix D and section 7, where they are rounded to three digits
    assert one_run_p_value(75, 100, 100, math.log(3)) == pytest.approx(0.553, abs=1e-3)
    assert one_run_epsilon(75, 100, 1000, delta=1e-4) == pytest.approx(0.673, abs=1e-3)
    assert one_run_epsilon(1439, 1510, 100_000, delta=1e-5) == pytest.approx(2.675, abs=1e-3)


def test_a_greater_delta_leaves_a_smaller_bound():
    bounds = [one_run_epsilon(90, 100, 200, delta) for delta in (0.0, 1e-5, 1e-3, 0.1)]
    assert bounds == sorted(bounds, reverse=True) and bounds[-1] == 0


def test_an_audit_of_randomised_response_stays_below_its_epsilon():
    epsilon = math.log(3)  # the truth with probability 3/4
    rng = torch.Generator().manual_seed(0)
    bound_of = cache(lambda right: one_run_epsilon(right, 100, 200))
    bounds = []
    for _ in range(200):
        members = torch.rand(200, generator=rng) < 0.5
        told = members ^ (torch.rand(200, generator=rng) < 0.25)
        scores = told.double() + 1e-6 * torch.rand(200, generator=rng)  # order among equals tells nothing
        bounds.append(bound_of(right_guesses(scores, members, 100)))
    assert sum(bound > epsilon for bound in bounds) <= 10
    assert sum(bounds) / len(bounds) > 0.5 * epsilon


def test_only_the_extremes_are_guessed():
    scores = torch.tensor([5.0, float("nan"), 0.0, 1.0, -1.0, float("inf")])
    members = torch.tensor([False, False, True, True, False, True])
    assert right_guesses(scores, members, 2) == 2
    assert right_guesses(scores, members, 4) == 3
    assert right_guesses(scores, members, 6) == 4
    assert right_guesses(torch.zeros(6), members, 2) == 0  # ties go by position: first "in", last "out"


def test_a_claim_is_held_against_the_bound():
    scores, members = torch.arange(100), torch.arange(100) >= 50
    found = audit(scores, members, 100, (1.0, 1e-5))
    assert found["right_guesses"] == 100 and found["dp_ceiling_breached"] == "yes"
    wrong = audit(scores, ~members, 100, (1.0, 1e-5))
    assert wrong["right_guesses"] == 0 and wrong["dp_ceiling_breached"] == "no"
    out_of_reach = audit(scores, members, 100, (10.0, 1e-5))
    assert out_of_reach["dp_ceiling_breached"] == "null: even right answers throughout show no more than " + (
        f"{found['epsilon_lower_bound']:.2f}, the claim is 10.00"
    )
    assert "epsilon_claimed" not in audit(scores, members, 100, None)
