from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from runners.report.statistics import Summary, differences, holm, paired_p, summarise, ties


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


def test_only_shared_seeds_are_paired() -> None:
    assert differences({0: 1.0, 1: 2.0, 2: 9.0}, {1: 0.5, 0: 0.5, 3: 9.0}) == [0.5, 1.5]


def test_paired_p_is_scipys() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 6))
    ours = paired_p(dict(enumerate(a)), dict(enumerate(b)))
    assert ours == pytest.approx(stats.ttest_rel(a, b).pvalue)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [({0: 1.0}, {0: 2.0}, None), ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, 1.0), ({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0}, 0.0)],
)
def test_paired_p_without_spread(a: dict[int, float], b: dict[int, float], expected: float | None) -> None:
    assert paired_p(a, b) == expected


def test_holm_on_the_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_ties_are_the_rows_that_cannot_be_told_apart() -> None:
    best = {0: 0.10, 1: 0.11, 2: 0.12, 3: 0.10}
    samples = {
        "best": best,
        "same": {seed: value + (0.01 if seed % 2 else -0.01) for seed, value in best.items()},
        "worse": {seed: value + 0.5 + 0.01 * seed for seed, value in best.items()},
        "untested": {0: 0.10},
    }
    assert ties("best", samples) == {"same"}
