"""The verdict on a paper follows from the answers to its sentences, and these from intervals over seeds."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import ttest_1samp

from runners.claims.claim_evaluation import (
    INSIDE,
    MISSED,
    NOT_RUN,
    OUTSIDE,
    TESTED,
    UNAVAILABLE,
    UNDECIDED,
    VACUOUS,
    Answer,
)
from runners.claims.claims import Claim, Paper
from runners.claims.intervals import ANYTHING, of_factor, of_mean, of_ratio
from runners.claims.verdicts import verdict_on


def words(*sentences: list[tuple[str, bool]]) -> tuple[str, list[str]]:
    """Return the verdict on a paper whose sentences are answered by (state, whether it was scaled)."""
    answers = [
        Answer(
            Claim.model_validate(
                {"id": f"{letter}{number}", "text": "t", "where": "w", "kind": "headline", "why": "w"}
                | {"sentence": letter, "scaled": "smaller" if scaled else None}
            ),
            state,
        )
        for letter, sentence in zip("abc", sentences, strict=False)
        for number, (state, scaled) in enumerate(sentence)
    ]
    paper = Paper.model_validate(
        {"system": "01", "title": "t", "authors": "a", "year": 2020}
        | {"abstract": dict.fromkeys("abc"[: len(sentences)], "s"), "claims": [one.claim for one in answers]}
    )
    found = verdict_on(paper, answers)
    return found.word, list(found.sentences.values())


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ([(INSIDE, False), (TESTED, False)], "reproduced"),
        ([(INSIDE, False), (INSIDE, True)], "reproduced in direction"),
        ([(INSIDE, False), (NOT_RUN, False)], "reproduced in direction"),
        ([(INSIDE, False), (VACUOUS, False)], "reproduced in direction"),
        ([(INSIDE, False), (UNDECIDED, False)], "undecided"),
        ([(INSIDE, False), (UNDECIDED, False), (MISSED, True)], "contradicted"),
        ([(INSIDE, False), (OUTSIDE, False)], "contradicted"),
        ([(NOT_RUN, False), (UNAVAILABLE, False)], "not testable here"),
        ([(VACUOUS, False)], "not testable here"),
    ],
)
def test_a_sentence_gets_a_word(sentence: list[tuple[str, bool]], word: str) -> None:
    assert words(sentence) == (word, [word])


def test_a_paper_is_reproduced_if_every_sentence_is_and_contradicted_if_one_is() -> None:
    holds, fails, unknown = [(INSIDE, False)], [(OUTSIDE, False)], [(NOT_RUN, False)]
    assert words(holds, holds)[0] == "reproduced"
    assert words(holds, unknown)[0] == "reproduced in direction"
    assert words(holds, fails)[0] == "contradicted"
    assert words(unknown, [(UNDECIDED, False)])[0] == "undecided"
    assert words(unknown)[0] == "not testable here"


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
