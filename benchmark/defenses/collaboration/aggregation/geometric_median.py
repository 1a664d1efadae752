"""Geometric median of the uploads: robust federated aggregation, RFA (Pillutla et al., IEEE TSP 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.metrics.distances import inner_products
from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class GeometricMedian(FederatedDefense):
    """Aggregation rule argmin_z of sum_i ||z - u_i||, computed by the smoothed Weiszfeld algorithm.

    Pillutla, Kakade, Harchaoui, *Robust Aggregation for Federated Learning*, IEEE TSP 2022, algorithm 2: repeat b_i = 1
    / max(nu, ||z - u_i||), z = sum_i b_i u_i / sum_i b_i. As in byzfl it starts from z = 0, which bounds the influence
    of a huge upload from the first step on. All iterates are linear combinations of uploads, so the steps work on the
    weights and the (n, n) inner products, at a cost that does not depend on d.

    Args:
        iterations: of Weiszfeld.
        nu: smoothing, in gradient units.
    """

    def __init__(self, *, iterations: Count = 3, nu: Positive = 1e-6) -> None:
        self.iterations, self.nu = iterations, nu

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        gram = inner_products(uploads)
        mixing = torch.zeros_like(gram[0])
        for _ in range(self.iterations):
            # ||z - u_i||^2 for z = sum_j mixing_j u_j
            squared = mixing @ gram @ mixing - 2 * gram @ mixing + gram.diagonal()
            weights = 1 / squared.clamp_min(0).sqrt().clamp_min(self.nu)
            mixing = weights / weights.sum()
        return mixing.to(uploads) @ uploads
