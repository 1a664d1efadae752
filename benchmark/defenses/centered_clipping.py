"""Uploads clipped around the last aggregate (Karimireddy, He, Jaggi, ICML 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.defenses.base import Defense, Round
from benchmark.defenses.gradient_clipping import clip_rows
from benchmark.errors import positive
from benchmark.training.functional import Layout

VERSION = 1


class CenteredClipping(Defense):
    """Repeats v <- v + mean_i of (u_i - v) min(1, tau / ||u_i - v||); v starts from the last round's aggregate.

    Karimireddy, He, Jaggi, *Learning from History for Byzantine Robust Optimization*, ICML 2021, algorithm 2. The first
    round starts from v = 0. Deviation: the paper's parties upload a momentum of their gradients, ours plain updates.

    Args:
        radius: tau, in gradient units; iterations: repetitions a round.
    """

    def __init__(self, *, radius: float, iterations: int) -> None:
        positive("centered_clipping.radius", radius)
        positive("centered_clipping.iterations", iterations)
        self.radius, self.iterations = radius, iterations

    def start(self, parties: int, layout: Layout) -> None:
        self.centre = torch.zeros(layout.size)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        centre = self.centre.to(uploads)
        for _ in range(self.iterations):
            centre = centre + clip_rows(uploads - centre, self.radius).mean(dim=0)
        self.centre = centre
        return centre
