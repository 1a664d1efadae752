"""Tests of intervals over seeds, against their definitions."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import ttest_1samp

from runners.claims.intervals import ANYTHING, of_factor, of_mean, of_ratio


def test_the_interval_of_a_mean_is_that_of_student() -> None:
    found = ttest_1samp([1.0, 2.0, 4.0], 0).confidence_interval(0.95)
    assert of_mean([1.0, 2.0, 4.0]) == pytest.approx((found.low, found.high))


def test_one_value_and_equal_values_are_points() -> None:
    assert of_mean([0.3]) == (0.3, 0.3)
    assert of_mean([0.1, 0.1, 0.1]) == (0.1, 0.1)


def test_what_is_not_finite_bounds_nothing() -> None:
    assert of_mean([1.0, math.inf]) == ANYTHING


def test_ends_of_the_interval_of_a_ratio_are_ratios_that_a_t_test_just_allows() -> None:
    draw = random.Random(0)
    over, under = [[draw.gauss(mean, 0.3) for _ in range(6)] for mean in (4.0, 2.0)]
    for end in of_ratio(over, under):
        gaps = [a - end * b for a, b in zip(over, under, strict=True)]
        assert ttest_1samp(gaps, 0).pvalue == pytest.approx(0.05, abs=1e-6)


def test_a_ratio_to_what_may_be_zero_has_no_bounds() -> None:
    assert of_ratio([1.0, 2.0, 3.0], [0.1, -0.1, 0.2]) == ANYTHING
    assert of_ratio([1.0, 1.1], [0.0, 0.0]) == (math.inf, math.inf)
    assert of_ratio([0.0], [0.0]) == ANYTHING
    assert of_ratio([3.0], [2.0]) == (1.5, 1.5)


def test_the_interval_of_a_factor_is_that_of_its_logarithm() -> None:
    low, high = of_factor([1e30, 1e31, 1e32])
    assert (math.log10(low), math.log10(high)) == pytest.approx(of_mean([30.0, 31.0, 32.0]))
    assert of_factor([1e30, math.inf]) == of_factor([1.0, 0.0]) == ANYTHING
