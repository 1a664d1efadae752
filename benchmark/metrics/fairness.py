"""Fairness gaps of a classifier of two classes between the groups of a sensitive attribute."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def fairness_gaps(predicted: Int[Tensor, " n"], y: Int[Tensor, " n"], sensitive: Int[Tensor, " n"]) -> dict[str, float]:
    """Return the largest differences between two groups, each in [0, 1]; 0 is equal treatment.

    Args:
        predicted: int64 (n,) classes 0 and 1; y: int64 (n,) the truth; sensitive: int64 (n,) groups.

    Returns:
        ``demographic_parity_gap`` (share predicted 1), ``tpr_gap`` and ``fpr_gap`` (equalised odds, left out where a
        group has no such people), ``accuracy_gap``.
    """
    said, right = predicted == 1, predicted == y
    everybody = torch.ones_like(said)
    kinds = {
        "demographic_parity_gap": (said, everybody),
        "tpr_gap": (said, y == 1),
        "fpr_gap": (said, y == 0),
        "accuracy_gap": (right, everybody),
    }
    gaps = {}
    for name, (event, among) in kinds.items():
        chosen = [among & (sensitive == group) for group in sensitive.unique()]
        if all(rows.any() for rows in chosen):
            rates = torch.stack([event[rows].double().mean() for rows in chosen])
            gaps[name] = (rates.max() - rates.min()).item()
    return gaps
