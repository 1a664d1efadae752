"""Krum: the upload nearest to its neighbours (Blanchard et al., NeurIPS 2017)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
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
        f_assumed: f, malicious uploads per round that the server assumes; None for the most that the rule can stand.
    """

    def __init__(self, *, f_assumed: CountOrZero | None = None) -> None:
        self.f = f_assumed

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        f = malicious_uploads("krum", self.f, len(uploads), round, each=2, more=3)
        return uploads[krum_scores(squared_distances(uploads), len(uploads) - f - 2).argmin()]


def krum_scores(distances: Float[Tensor, "n n"], neighbours: int) -> Float[Tensor, " n"]:
    """Return the sums (n,) of the squared distances (n, n) to the nearest ``neighbours`` others; lower is better."""
    others = distances.clone().fill_diagonal_(torch.inf)
    return others.sort(dim=1).values[:, :neighbours].sum(dim=1)
