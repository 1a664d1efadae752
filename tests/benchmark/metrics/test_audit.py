import math
from functools import cache

import pytest
import torch

from benchmark.metrics.audit import audit, one_run_epsilon, one_run_p_value, right_guesses


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


def test_randomised_response_stays_below_its_epsilon_as_often_as_promised():
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
