"""Verdicts on the sentences of a paper's abstract, and on the paper, from the answers to the claims that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runners.claims.claim_evaluation import INSIDE, MISSED, OUTSIDE, TESTED, UNDECIDED, Answer
from runners.claims.claims import Paper

CONTRADICTED, UNDECIDED_YET, UNTESTED = "contradicted", "undecided", "not testable here"
REPRODUCED, IN_DIRECTION = "reproduced", "reproduced in direction"
WORDS = (REPRODUCED, IN_DIRECTION, CONTRADICTED, UNDECIDED_YET, UNTESTED)


@dataclass(frozen=True)
class Verdict:
    """The word for a paper, and letter -> the word for each sentence of its abstract."""

    word: str
    sentences: dict[str, str]

    def told(self) -> str:
        """Return the sentences by their words: ``(a) (c) contradicted; (b) not testable here``."""
        by_word = {word: [f"({name})" for name, one in self.sentences.items() if one == word] for word in WORDS}
        return "; ".join(f"{' '.join(letters)} {word}" for word, letters in by_word.items() if letters)


def verdict_on(paper: Paper, answers: Sequence[Answer]) -> Verdict:
    """Return the verdict on ``paper``.

    One contradicted sentence contradicts it. It is reproduced if every sentence is, in direction if one is at all.
    """
    words = {letter: _of([one for one in answers if one.claim.sentence == letter]) for letter in paper.abstract}
    found = set(words.values())
    if CONTRADICTED in found:
        return Verdict(CONTRADICTED, words)
    if found & {REPRODUCED, IN_DIRECTION}:
        return Verdict(REPRODUCED if found == {REPRODUCED} else IN_DIRECTION, words)
    return Verdict(UNDECIDED_YET if UNDECIDED_YET in found else UNTESTED, words)


def _of(answers: Sequence[Answer]) -> str:
    """Return the word for a sentence.

    It is reproduced if every claim of it holds on the authors' data at their size; otherwise its direction is, as far
    as it was tested.
    """
    states = {one.state for one in answers}
    if states & {OUTSIDE, MISSED}:
        return CONTRADICTED
    if UNDECIDED in states:
        return UNDECIDED_YET
    if not states & {INSIDE, TESTED}:
        return UNTESTED
    whole = states <= {INSIDE, TESTED} and not any(one.claim.scaled for one in answers)
    return REPRODUCED if whole else IN_DIRECTION
