"""Separation of members from non-members by scores; every definition of this kind in the suite is here.

Carlini et al., *Membership Inference Attacks From First Principles*, 2022 (low false positive rates); Jagielski,
Ullman, Oprea, 2020 (lower bounds of epsilon).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.metrics.classification import auc, tpr_at_fpr

ALPHAS = {"tpr_at_5pct_fpr": 0.05, "tpr_at_1pct_fpr": 0.01, "tpr_at_01pct_fpr": 0.001}
FEWEST_FALSE = 10  # non-members above the threshold; a rate that rests on one of them hangs on who was drawn
PRIORS = {"ppv_prior_50pct": 0.5, "ppv_prior_10pct": 0.1, "ppv_prior_1pct": 0.01}
CONFIDENCE = 0.95


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact two-sided confidence interval of a binomial share."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
    return low, high


def balanced_accuracy(members: Float[Tensor, " m"], others: Float[Tensor, " n"], threshold: float) -> float:
    """Return (TPR + 1 - FPR) / 2 at a threshold that was fixed elsewhere, in [0, 1]; 0.5 is guessing."""
    return (_above(members, threshold) + 1 - _above(others, threshold)) / 2


def best_threshold(members: Float[Tensor, " m"], others: Float[Tensor, " n"]) -> float:
    """Return the threshold of the greatest balanced accuracy on these scores, which are not to be scored by it."""
    cuts = torch.cat([members, others]).unique()
    cuts = torch.cat([cuts[:1] - 1, cuts])
    hits = 1 - torch.searchsorted(members.sort().values, cuts, right=True) / len(members)
    false = 1 - torch.searchsorted(others.sort().values, cuts, right=True) / len(others)
    return float(cuts[(hits - false).argmax()])


def epsilon_lower_bound(
    members: Float[Tensor, " m"],
    others: Float[Tensor, " n"],
    threshold: float,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> float:
    """Return a lower bound of epsilon from how well ``threshold`` (fixed on other data) separates; 0 says nothing.

    ``max(ln((TPR_lo - delta) / FPR_hi), ln((1 - FPR_hi - delta) / (1 - TPR_lo)))`` with one-sided Clopper-Pearson
    bounds of (1 - confidence) / 2 each.
    """
    true_low = clopper_pearson(int((members > threshold).sum()), len(members), confidence)[0]
    false_high = clopper_pearson(int((others > threshold).sum()), len(others), confidence)[1]
    ratios = [(true_low - delta, false_high), (1 - false_high - delta, 1 - true_low)]
    return max([0.0, *(math.log(above / below) for above, below in ratios if above > 0 and below > 0)])


def record_aucs(scores: Float[Tensor, "k n"], member: Bool[Tensor, "k n"]) -> Float[Tensor, " n"]:
    """Return the AUC of each single record over releases with and without it, float64; NaN where one kind is missing.

    Args:
        scores: (k, n) of each record in each of k releases; member: bool (k, n).
    """
    pairs = member.unsqueeze(1) & ~member.unsqueeze(0)  # (k, k, n): with in the first, without in the second
    above = (scores.unsqueeze(1) > scores.unsqueeze(0)).double() + (scores.unsqueeze(1) == scores.unsqueeze(0)) / 2
    return (above * pairs).sum(dim=(0, 1)) / pairs.sum(dim=(0, 1))


def worst_decile(aucs: Float[Tensor, " n"]) -> float:
    """Return the mean of the highest tenth of ``aucs``, at least one; NaN do not count."""
    known = aucs[~aucs.isnan()]
    return known.topk(max(1, len(known) // 10)).values.mean().item()


def dp_ceiling(epsilon: float, delta: float, fpr: float) -> float:
    """Return the greatest true positive rate that (epsilon, delta) leaves at this false positive rate."""
    loose = math.exp(min(epsilon, 700.0)) * fpr + delta
    return max(0.0, min(1.0, loose, 1 - math.exp(-epsilon) * (1 - delta - fpr)))


def positive_predictive_value(true_rate: float, false_rate: float, prior: float) -> float:
    """Return how often "member" is right when a share ``prior`` of the candidates are members; 0 if never said."""
    said = prior * true_rate + (1 - prior) * false_rate
    return prior * true_rate / said if said else 0.0


def score_membership(
    scores: Float[Tensor, " n"],
    members: Bool[Tensor, " n"],
    threshold: float | None,
    budget: tuple[float, float] | None = None,
) -> tuple[dict[str, float], dict[str, float | str]]:
    """Return all measures of one attack: successes, then notes.

    Args:
        scores: (n,), higher is more like a member; a NaN counts as the least.
        members: bool (n,).
        threshold: of shadow data, or None.
        budget: (epsilon, delta) that the mechanism claims.

    Returns:
        Successes: ``attack_auc``, ``tpr_at_*_fpr`` where non-members are enough, ``balanced_accuracy`` where the
        attacker had shadow data, ``epsilon_lower_bound`` (threshold from one half of the people, bound from the other).
        Second: confidence bounds, positive predictive values at 1 % false positives, and why a measure is left out.
        With a ``budget`` also the verdict of :func:`held_against`.
    """
    scores = scores.detach().cpu().double().nan_to_num(nan=-math.inf)
    members = members.cpu()
    ours, theirs = scores[members], scores[~members]
    ranks = scores.unique(return_inverse=True)[1].double()  # the same order without infinities
    risk: dict[str, float] = {"attack_auc": auc(ranks, members)}
    notes: dict[str, float | str] = {"members": len(ours), "non_members": len(theirs)}
    for name, alpha in ALPHAS.items():
        if round(alpha * len(theirs), 6) < FEWEST_FALSE:
            needed = round(FEWEST_FALSE / alpha)
            notes[name] = f"null: a false positive rate of {alpha:g} wants {needed} non-members, not {len(theirs)}"
            continue
        risk[name] = rate = tpr_at_fpr(ranks, members, alpha)
        notes[f"{name}_low"], notes[f"{name}_high"] = clopper_pearson(round(rate * len(ours)), len(ours))
    if "tpr_at_1pct_fpr" in risk:
        for name, prior in PRIORS.items():
            notes[name] = positive_predictive_value(risk["tpr_at_1pct_fpr"], ALPHAS["tpr_at_1pct_fpr"], prior)
    if threshold is None:
        notes["balanced_accuracy_oracle_threshold"] = balanced_accuracy(ours, theirs, best_threshold(ours, theirs))
    else:
        risk["balanced_accuracy"] = balanced_accuracy(ours, theirs, threshold)
    delta = budget[1] if budget else 0.0
    cut = best_threshold(ours[::2], theirs[::2])
    risk["epsilon_lower_bound"] = epsilon_lower_bound(ours[1::2], theirs[1::2], cut, delta)
    if budget:
        held = torch.ones(len(ours[1::2])), torch.zeros(len(theirs[1::2]))
        notes |= held_against(budget[0], risk["epsilon_lower_bound"], epsilon_lower_bound(*held, 0.5, delta))
    return risk, notes


def held_against(claimed: float, bound: float, greatest: float) -> dict[str, float | str]:
    """Return what a lower bound of epsilon says of the claimed one.

    Args:
        greatest: the bound that as many answers would give if all were right. Nothing is said of a claim above it.
    """
    if greatest <= claimed:
        verdict = f"null: even right answers throughout show no more than {greatest:.2f}, the claim is {claimed:.2f}"
    else:
        verdict = "yes" if bound > claimed else "no"
    return {"epsilon_lower_bound_greatest": greatest, "dp_ceiling_breached": verdict}


def _above(scores: Tensor, threshold: float) -> float:
    return (scores > threshold).double().mean().item()
