"""Momentum of the parties: each uploads a running average of its updates (Karimireddy, He, Jaggi, ICML 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.parameters import BelowOne
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 1


class WorkerMomentum(FederatedDefense):
    """Client defense that uploads m_i <- beta m_i + (1 - beta) u_i in place of the update u_i.

    Karimireddy, He, Jaggi, *Learning from History for Byzantine Robust Optimization*, ICML 2021, algorithm 2; El
    Mhamdi, Guerraoui, Rouault, *Distributed Momentum for Byzantine-resilient SGD*, ICLR 2021. Averaging over rounds
    makes honest uploads less noisy, so that an attack that hides in their spread moves less. Stack it with a rule,
    ``defense=[worker_momentum,centered_clipping]``. A party's first upload is its first update.

    Args:
        beta: share of the past that is kept.
    """

    def __init__(self, *, beta: BelowOne = 0.9) -> None:
        self.beta = beta

    def start(self, parties: int, layout: Layout) -> None:
        self.momentum = torch.zeros(parties, layout.size)
        self.begun = torch.zeros(parties, dtype=torch.bool)

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        self.momentum = self.momentum.to(updates)
        kept = self.beta * self.begun[round.parties].to(updates)[:, None]
        self.momentum[round.parties] = kept * self.momentum[round.parties] + (1 - kept) * updates
        self.begun[round.parties] = True
        return self.momentum[round.parties]
