"""Success of attribute inference, as that of the best of several attackers."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmark.metrics.classification import accuracy, auc, ber


def majority_share(truth: Int[Tensor, " n"]) -> float:
    """Return the largest group's share, in (0, 1]: the accuracy of always guessing it."""
    return float(truth.bincount().max()) / len(truth)


def attack_ber(guess: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """Return the balanced error rate, in [0, 1], where an attacker of a two-valued attribute may invert its answer.

    (k - 1) / k is guessing among k values.
    """
    rate = ber(guess, truth)
    return min(rate, 1 - rate) if len(truth.unique()) == 2 else rate


def score_attributes(
    labels: dict[str, Int[Tensor, " n"]], scores: dict[str, Float[Tensor, " n"]], truth: Int[Tensor, " n"]
) -> tuple[dict[str, float], dict[str, float | str]]:
    """Return the strongest attacker's success, and everything needed to interpret it.

    Args:
        labels: attacker -> its guesses; scores: attacker -> its belief in the value 1.

    Returns:
        Successes: ``attribute_accuracy`` (sAcc), ``attribute_advantage`` (over the majority share),
        ``attribute_balanced_accuracy`` (1 - BER) and ``attribute_auc``. Second: ``ber``, ``majority_share``, the
        standard error of sAcc, and each attacker's accuracy.
    """
    truth = truth.cpu()
    reached = {name: accuracy(guess.cpu(), truth) for name, guess in labels.items()}
    error = min(attack_ber(guess.cpu(), truth) for guess in labels.values())
    strongest = max(reached, key=lambda name: reached[name])
    best = reached[strongest]
    risk = {
        "attribute_accuracy": best,
        "attribute_advantage": best - majority_share(truth),
        "attribute_balanced_accuracy": 1 - error,
    }
    if scores and len(truth.unique()) == 2:
        risk["attribute_auc"] = max(auc(score.cpu(), truth == truth.max()) for score in scores.values())
    notes: dict[str, float | str] = {
        "ber": error,
        "majority_share": majority_share(truth),
        "attribute_accuracy_se": (best * (1 - best) / len(truth)) ** 0.5,
        "strongest_attacker": strongest,
        **{f"attribute_accuracy_{name}": value for name, value in reached.items()},
    }
    return risk, notes


def leak(labels: dict[str, Int[Tensor, " n"]], truth: Int[Tensor, " n"], members: Bool[Tensor, " n"]) -> float:
    """Return accuracy on members minus accuracy on non-members, the largest of all attackers: more than imputation."""
    truth, members = truth.cpu(), members.cpu()
    rows = torch.stack([(guess.cpu() == truth).double() for guess in labels.values()])
    return float((rows[:, members].mean(dim=1) - rows[:, ~members].mean(dim=1)).max())
