"""Agreement of values on a released set with the true values."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def compare_values(
    raw: Float[Tensor, " sellers"], released: Float[Tensor, " sellers"]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return error and ranking of ``released`` values against ``raw`` ones.

    Returns:
        Utility: ``valuation_fidelity`` = 1 - mean absolute error, ``valuation_tau`` (Kendall's tau-b in [-1, 1]).
        Notes: ``valuation_mae``, ``valuation_bias`` = mean(released - raw), ``valuation_spearman``.
        A ranking in which all are equal says nothing, and counts as 0.
    """
    from scipy.stats import kendalltau, spearmanr

    apart = (released - raw).double()
    mae = apart.abs().mean().item()
    constant = bool((raw == raw[0]).all() or (released == released[0]).all())
    tau, rho = (
        0.0 if constant else float(rank(raw.numpy(), released.numpy()).statistic) for rank in (kendalltau, spearmanr)
    )
    utility = {"valuation_fidelity": 1 - mae, "valuation_tau": tau}
    return utility, {"valuation_mae": mae, "valuation_bias": apart.mean().item(), "valuation_spearman": rho}


def macro_f1(predicted: Int[Tensor, " n"], y: Int[Tensor, " n"]) -> float:
    """Return the mean over the classes of ``y`` of 2 hits / (predicted + actual), in [0, 1]."""
    scores = []
    for label in y.unique():
        hits = ((predicted == label) & (y == label)).sum()
        scores.append(2 * hits / ((predicted == label).sum() + (y == label).sum()))
    return torch.stack(scores).double().mean().item()
