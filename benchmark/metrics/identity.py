"""Identity of rows: confident claims, linkage, copies."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

CONFIDENT = 0.5
ROUNDING = 1e-6
"""Distances below it are those of a sample to itself."""


def claims(probabilities: Float[Tensor, "n persons"]) -> dict[str, float]:
    """Return the confidence with which rows of probabilities claim a person.

    ``confident_share`` (p > 0.5) and ``mean_max_probability`` in [0, 1], ``identity_entropy`` over its maximum.
    """
    best = probabilities.max(dim=1).values
    entropy = torch.special.entr(probabilities).sum(dim=1) / torch.tensor(float(probabilities.shape[1])).log()
    return {
        "confident_share": (best > CONFIDENT).double().mean().item(),
        "mean_max_probability": best.double().mean().item(),
        "identity_entropy": entropy.double().mean().item(),
    }


def reidentified(distances: Float[Tensor, "n listed"], position: Int[Tensor, " n"], within: int) -> float:
    """Return the share of rows whose true person is among the ``within`` nearest; ties count against the attacker.

    Args:
        distances: (n, listed), NaN counts as farthest; position: int64 (n,) of the true person.
    """
    distances = distances.nan_to_num(nan=float("inf"))
    own = distances.gather(1, position.unsqueeze(1))
    rank = (distances <= own).sum(dim=1)
    return (rank <= within).double().mean().item()


def score_copies(
    to_private: Float[Tensor, " m"], to_equal_share: Float[Tensor, " m"], to_holdout: Float[Tensor, " m"], radius: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Return ``copied_share`` (within ``radius`` of a private sample) and ``exact_copy_share``; then the DCR share.

    The DCR share (rows nearer to the private data than to as many others; ties half; 0.5 is expected) may raise an
    alarm and never closes a case: verbatim publication of a few people passes it.

    Args:
        to_private, to_holdout: (m,) distances to the nearest private sample and to the nearest other.
        to_equal_share: (m,) to the nearest of as many private samples as there are others.
    """
    nearer = (to_equal_share < to_holdout).double() + (to_equal_share == to_holdout).double() / 2
    risk = {
        "copied_share": (to_private < radius).double().mean().item(),
        "exact_copy_share": (to_private < ROUNDING).double().mean().item(),
    }
    notes = {"dcr_share": nearer.mean().item(), "holdout_share_in_radius": (to_holdout < radius).double().mean().item()}
    return risk, notes
