"""The geometric median of the uploads: robust federated aggregation, RFA (Pillutla et al., IEEE TSP 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import positive
from benchmark.metrics.distances import inner_products
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class GeometricMedian(FederatedDefense):
    """Gives argmin_z of sum_i ||z - u_i|| by the smoothed Weiszfeld algorithm.

    Pillutla, Kakade, Harchaoui, *Robust Aggregation for Federated Learning*, IEEE TSP 2022, algorithm 2: repeat
    b_i = 1 / max(nu, ||z - u_i||), z = sum_i b_i u_i / sum_i b_i. We start from z = 0 ("nothing learnt"), as byzfl
    does: it bounds the pull of a huge upload from the first step on. All iterates are mixtures of uploads, so the steps
    run on mixture weights and the (n, n) inner products and cost nothing in d.

    Args:
        iterations: of Weiszfeld; nu: smoothing, in gradient units.
    """

    def __init__(self, *, iterations: int, nu: float) -> None:
        positive("geometric_median.iterations", iterations)
        positive("geometric_median.nu", nu)
        self.iterations, self.nu = iterations, nu

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        gram = inner_products(uploads)
        mixture = torch.zeros_like(gram[0])
        for _ in range(self.iterations):
            # ||z - u_i||^2 for z = sum_j mixture_j u_j
            squared = mixture @ gram @ mixture - 2 * gram @ mixture + gram.diagonal()
            weights = 1 / squared.clamp_min(0).sqrt().clamp_min(self.nu)
            mixture = weights / weights.sum()
        return mixture.to(uploads) @ uploads
