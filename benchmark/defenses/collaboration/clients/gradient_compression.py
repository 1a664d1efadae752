"""Compressed uploads with error feedback: a party adds the error of an upload to its next one.

Seide et al. 2014 (1-bit SGD); Stich, Cordonnier, Jaggi, *Sparsified SGD with Memory*, NeurIPS 2018, Algorithm 1;
Karimireddy et al., *Error Feedback Fixes SignSGD*, ICML 2019, Algorithm 2.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from benchmark.defenses.collaboration.clients.selective_sharing import count_sparse_upload
from benchmark.parameters import Share
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 1


class GradientCompression(FederatedDefense):
    """Client defense that sends part of an update now and the rest later, at the cost of delay instead of accuracy.

    An adversary therefore sees uploads whose sum over rounds is the party's whole update.

    Args:
        method: ``top_k`` (largest magnitudes), ``random_k``, or ``sign`` (signs times the mean magnitude).
        share: of the coordinates that ``top_k`` and ``random_k`` send, in (0, 1].
        error_feedback: whether the error is kept for the next upload; otherwise it is lost.
    """

    def __init__(
        self,
        *,
        method: Literal["top_k", "random_k", "sign"] = "top_k",
        share: Share = 0.05,
        error_feedback: bool = True,
    ) -> None:
        self.method, self.share, self.error_feedback = method, share, error_feedback
        self.memory: Tensor | None = None

    def start(self, parties: int, layout: Layout) -> None:
        self.memory = torch.zeros(parties, layout.size)

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        assert self.memory is not None
        if not self.error_feedback:
            return self._compressed(updates, round)
        self.memory = self.memory.to(updates)
        round.publish(memory=True)
        due = updates + self.memory[round.parties]
        sent = self._compressed(due, round)
        self.memory[round.parties] = due - sent
        return sent

    def _compressed(self, rows: Tensor, round: Round) -> Tensor:
        if self.method == "sign":
            round.publish(signs=True)
            round.send(bytes_sent=-len(rows) * rows.shape[1] * (4 - 1 / 8), messages=0)
            return rows.sign() * rows.abs().mean(dim=1, keepdim=True)
        order = rows.abs() if self.method == "top_k" else torch.rand(rows.shape, generator=round.rng).to(rows)
        kept = order.topk(math.ceil(self.share * rows.shape[1]), dim=1).indices
        mask = torch.zeros_like(rows, dtype=torch.bool).scatter(1, kept, True)
        round.publish(mask=mask)
        count_sparse_upload(round, len(rows), kept.shape[1], rows.shape[1])
        return rows * mask
