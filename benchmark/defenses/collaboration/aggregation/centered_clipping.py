"""Centred clipping: uploads clipped around the last aggregate (Karimireddy, He, Jaggi, ICML 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.metrics.distances import inner_products
from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 1


class CenteredClipping(FederatedDefense):
    """Aggregation rule that iterates v <- v + mean_i of (u_i - v) min(1, tau / ||u_i - v||) from the last aggregate v.

    Karimireddy, He, Jaggi, *Learning from History for Byzantine Robust Optimization*, ICML 2021, algorithm 2. The first
    round starts from v = 0. The paper's parties upload the momentum of their gradients, which is a defense of its own
    here: ``defense=[worker_momentum,centered_clipping]``; alone, the rule clips plain updates. Every v is the round's
    start c plus a linear combination of the u_i - c, so the iterations work on its weights and the (n, n) inner
    products, at a cost that does not depend on d.

    Args:
        radius: tau, in gradient units.
        iterations: per round.
    """

    def __init__(self, *, radius: Positive = 0.5, iterations: Count = 1) -> None:
        self.radius, self.iterations = radius, iterations

    def start(self, parties: int, layout: Layout) -> None:
        self.centre = torch.zeros(layout.size)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        centre = self.centre.to(uploads)
        gram = inner_products(uploads, centre)
        mixing = torch.zeros_like(gram[0])
        for _ in range(self.iterations):
            # ||u_i - v||^2 for v = c + sum_j mixing_j (u_j - c)
            squared = mixing @ gram @ mixing - 2 * gram @ mixing + gram.diagonal()
            kept = (self.radius / squared.clamp_min(1e-40).sqrt()).clamp_max(1) / len(uploads)
            mixing = mixing * (1 - kept.sum()) + kept
        weights = mixing.to(uploads)
        self.centre = (1 - weights.sum()) * centre + weights @ uploads
        return self.centre
