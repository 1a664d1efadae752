"""Audits of a privacy claim in one run, with many canaries: how many right guesses a claimed epsilon allows.

Steinke, Nasr, Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023: Corollary 5.4 and appendix D.
"""

from __future__ import annotations

import math

from jaxtyping import Bool, Real
from torch import Tensor

from benchmark.metrics.membership import CONFIDENCE, held_against

STEPS = 40  # of the bisection


def right_guesses(scores: Real[Tensor, " n"], members: Bool[Tensor, " n"], guesses: int) -> int:
    """Return how many of ``guesses`` are right: "in" for the half with the highest scores, "out" for the lowest.

    Nothing is guessed of the others. Ties are broken by position, which the coins do not depend on.

    Args:
        scores: (m,), higher is more like a member; a NaN counts as the least. members: bool (m,).
        guesses: an even number, m at most.
    """
    order = scores.detach().cpu().double().nan_to_num(nan=-math.inf).argsort(descending=True, stable=True)
    inside, half = members.cpu()[order], guesses // 2
    return int(inside[:half].sum()) + int((~inside[len(inside) - half :]).sum())


def one_run_p_value(right: int, guesses: int, canaries: int, epsilon: float, delta: float = 0.0) -> float:
    """Return the largest probability of so many right guesses if the mechanism is (epsilon, delta)-private.

    Args:
        right: of ``guesses`` about ``canaries``, each of which a fair coin put in.

    Returns:
        ``P[B >= v] + 2 m delta max_i P[v > B >= v - i] / i`` with ``v = right``, ``m = canaries``, i from 1 to v and B
        binomial: ``guesses`` trials that succeed with probability ``e^epsilon / (1 + e^epsilon)`` each.
    """
    import numpy as np
    from scipy.stats import binom

    success = 1 / (1 + math.exp(-epsilon))
    p_value = float(binom.sf(right - 1, guesses, success))
    if delta > 0 and right > 0:
        below = np.cumsum(binom.pmf(np.arange(right)[::-1], guesses, success))
        p_value += 2 * canaries * delta * float((below / np.arange(1, right + 1)).max())
    return min(p_value, 1.0)


def one_run_epsilon(
    right: int, guesses: int, canaries: int, delta: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """Return a lower bound of epsilon from the number of right guesses in one run; 0 says nothing.

    The greatest epsilon whose p-value is below ``1 - confidence``, by bisection. If all r guesses are right and delta
    is 0, that is ``ln(p / (1 - p))`` with ``p = (1 - confidence)^(1 / r)``.
    """

    def refuted(epsilon: float) -> bool:
        return one_run_p_value(right, guesses, canaries, epsilon, delta) < 1 - confidence

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def audit(
    scores: Real[Tensor, " n"], members: Bool[Tensor, " n"], guesses: int, claim: tuple[float, float] | None
) -> dict[str, float | str]:
    """Return the results of one audit, named as in the records.

    Args:
        scores, members, guesses: as for :func:`right_guesses`.
        claim: (epsilon, delta) of this very run by its accountant, or None; the bound is then one of pure epsilon.

    Returns:
        ``guesses``, ``right_guesses``, ``epsilon_lower_bound`` at 95 %, and where there is a claim ``epsilon_claimed``
        and :func:`~benchmark.metrics.membership.held_against`: whether the bound exceeds it, as for a true claim in 5 %
        of audits at most, or that so few guesses cannot show it.
    """
    right = right_guesses(scores, members, guesses)
    delta = claim[1] if claim else 0.0
    bound = one_run_epsilon(right, guesses, len(members), delta)
    notes: dict[str, float | str] = {"guesses": guesses, "right_guesses": right, "epsilon_lower_bound": bound}
    if claim:
        greatest = one_run_epsilon(guesses, guesses, len(members), delta)
        notes |= {"epsilon_claimed": claim[0]} | held_against(claim[0], bound, greatest)
    return notes
