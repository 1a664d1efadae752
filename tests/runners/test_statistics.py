from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from runners.report.statistics import EXACT_UP_TO, Summary, differ, resamples, summarise, ties


def test_no_value_has_no_summary_and_one_has_no_interval() -> None:
    assert summarise([]) is None
    assert summarise([0.25]) == Summary(0.25, None, 1)


def test_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=7)
    summary = summarise(list(values))
    assert summary is not None and summary.half_width is not None
    low, high = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    assert summary.mean - summary.half_width == pytest.approx(low)
    assert summary.mean + summary.half_width == pytest.approx(high)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_resamples_are_all_choices_with_replacement(n: int) -> None:
    every = Counter(tuple(choice.count(i) for i in range(n)) for choice in itertools.product(range(n), repeat=n))
    assert {counts: chance * n**n for chance, counts in resamples(n)} == pytest.approx(every)


def test_many_seeds_are_resampled_at_random() -> None:
    drawn = resamples(EXACT_UP_TO + 1)
    assert sum(chance for chance, _ in drawn) == pytest.approx(1)
    assert np.mean([counts for _, counts in drawn]) == pytest.approx(1)


def test_interval_of_a_difference_is_that_of_a_plain_bootstrap() -> None:
    """Of one sample each, over all 5^5 choices of seeds, with numpy's quantiles of the inverted distribution."""
    a, b = np.random.default_rng(5).normal(size=(2, 5))
    means = [np.mean([(a - b)[i] for i in choice]) for choice in itertools.product(range(5), repeat=5)]
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    centre, factor = (a - b).mean(), math.sqrt(5 / 4) * stats.t.ppf(0.975, 4) / stats.norm.ppf(0.975)
    for end in (centre + factor * (low - centre), centre + factor * (high - centre)):
        for shift in (-1e-6, 1e-6):  # on either side of the end of the interval
            shifted = dict(enumerate(a - end + shift))
            inside = low - 1e-9 <= centre + ((end - shift) - centre) / factor <= high + 1e-9
            assert differ([shifted], [dict(enumerate(b))]) is not inside


def test_the_choice_of_the_greatest_is_resampled_too() -> None:
    """Two noisy attacks that take turns: neither mean is far from .5, but their greatest always is above."""
    first = {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0, 4: 0.5}
    second = {seed: 1 - value for seed, value in first.items()}
    flat = dict.fromkeys(first, 0.5)
    assert differ([first], [flat]) is False and differ([first, second], [flat]) is False
    assert differ([{**flat, 0: 0.9}, flat], [dict.fromkeys(first, 0.2)]) is True


def test_it_errs_as_often_as_it_says() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 2, 5))
    wrong = np.mean([differ([dict(enumerate(a))], [dict(enumerate(b))]) for a, b in noise])
    found = np.mean([differ([dict(enumerate(a))], [dict(enumerate(b + 3))]) for a, b in noise])
    assert wrong < 0.08 and found > 0.9


def test_samples_that_share_fewer_than_two_seeds_are_not_tested() -> None:
    assert differ([{0: 1.0, 1: 1.0}], [{1: 1.0, 2: 1.0}]) is None
    assert differ([], [{0: 1.0}]) is None
    assert ties("best", {"best": [{0: 0.1, 1: 0.1}], "same": [{0: 0.1, 1: 0.1}], "one": [{0: 0.1}]}) == {"same"}
