"""Krum: the one upload that is nearest to its neighbours (Blanchard et al., NeurIPS 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.metrics.distances import squared_distances
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class Krum(FederatedDefense):
    """Gives u_i with the least score s(i) = sum of ||u_i - u_j||^2 over the n - f - 2 nearest other uploads j.

    Blanchard, El Mhamdi, Guerraoui, Stainer, *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*,
    NeurIPS 2017, section 4. Proven for n >= 2f + 3.

    Args:
        f_assumed: malicious parties among the uploads of a round that the server prepares for.
    """

    def __init__(self, *, f_assumed: int) -> None:
        self.f = not_negative("krum", f_assumed)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        at_least("krum", len(uploads), 2 * self.f + 3, "2 f + 3", self.f)
        return uploads[krum_scores(squared_distances(uploads), len(uploads) - self.f - 2).argmin()]


def krum_scores(distances: Tensor, neighbours: int) -> Tensor:
    """Sum of the squared distances to the nearest ``neighbours`` others: (n, n) -> (n,). A lower score is better."""
    others = distances.clone().fill_diagonal_(torch.inf)
    return others.sort(dim=1).values[:, :neighbours].sum(dim=1)


def not_negative(name: str, f_assumed: int) -> int:
    """``f_assumed`` as it is.

    Raises:
        ConfigError: it is below zero.
    """
    if f_assumed < 0:
        raise ConfigError(f"defense.{name}.f_assumed must not be negative, got {f_assumed}.")
    return f_assumed


def at_least(name: str, uploads: int, needed: int, formula: str, f_assumed: int) -> None:
    """Refuse a round with fewer uploads than a rule can work with.

    Raises:
        ConfigError: there are fewer.
    """
    if uploads < needed:
        raise ConfigError(
            f"{name} with f_assumed={f_assumed} needs at least {formula} = {needed} uploads a round, got {uploads}; "
            f"lower defense.{name}.f_assumed or raise setting.parties."
        )
