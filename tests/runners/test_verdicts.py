"""Tests of the verdict on a paper: each word follows from the answers to its sentences."""

from __future__ import annotations

import pytest

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
