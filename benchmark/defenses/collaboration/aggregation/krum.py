"""Krum: the upload nearest to its neighbours (Blanchard et al., NeurIPS 2017)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.metrics.distances import squared_distances
from benchmark.parameters import CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Krum(FederatedDefense):
    """Aggregation rule that takes the upload u_i with the least score s(i).

    s(i) is the sum of ||u_i - u_j||^2 over the n - f - 2 nearest other uploads j. Blanchard, El Mhamdi, Guerraoui,
    Stainer, *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*, NeurIPS 2017, section 4. Proven
    for n >= 2f + 3.

    Args:
        f_assumed: f, malicious uploads per round that the server assumes.
    """

    def __init__(self, *, f_assumed: CountOrZero = 3) -> None:
        self.f = f_assumed

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = still_assumed(self.f, round)
        require_uploads("krum", len(uploads), 2 * f + 3, "2 f + 3", f)
        return uploads[krum_scores(squared_distances(uploads), len(uploads) - f - 2).argmin()]


def krum_scores(distances: Float[Tensor, "n n"], neighbours: int) -> Float[Tensor, " n"]:
    """Return the sums (n,) of the squared distances (n, n) to the nearest ``neighbours`` others; lower is better."""
    others = distances.clone().fill_diagonal_(torch.inf)
    return others.sort(dim=1).values[:, :neighbours].sum(dim=1)


def still_assumed(f_assumed: int, round: Round) -> int:
    """Return how many malicious uploads a rule has to expect among those that are left.

    An upload that was dropped as invalid is one of the ``f_assumed``, so it need not be expected again.
    """
    return max(0, f_assumed - round.invalid)


def require_uploads(name: str, uploads: int, needed: int, formula: str, f_assumed: int) -> None:
    """Check that a round has enough uploads for a rule.

    Raises:
        ConfigError: there are fewer than ``needed``.
    """
    if uploads < needed:
        raise ConfigError(
            f"{name} with f_assumed={f_assumed} needs at least {formula} = {needed} uploads a round, got {uploads}; "
            f"lower defense.{name}.f_assumed or raise setting.parties."
        )
