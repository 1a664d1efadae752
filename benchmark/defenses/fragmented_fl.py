"""Fragmented federated learning: parties swap random fragments of their updates, the server scores what it receives.

Jebreel, Domingo-Ferrer, Blanco-Justicia, Sánchez, *Enhanced Security and Privacy via Fragmented Federated Learning*,
IEEE TNNLS 2024 (arXiv 2207.05978). The protocol is linear, so mixing updates equals the paper's mixing of models.
Deviations: the pads that hide a fragment in transit cancel exactly, so here they are counted as traffic and left out
of the arithmetic; keys and encryption are not simulated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.defenses.base import Defense, Round
from benchmark.training.federated import BYTES_PER_FLOAT
from benchmark.training.functional import Layout

VERSION = 1
PAIRING_TRIES = 20
KEY_BYTES = 32  # one X25519 public key


class FragmentedFL(Defense):
    """Pairwise mixing (privacy) and reputation (poisoning), each of which may be switched off.

    Args:
        p_mix: share of the coordinates that a pair exchanges; 0 turns mixing off.
        warm_up: rounds in which everybody is selected and accepted and the median aggregates.
        reputation: False aggregates by the mean of all uploads.
    """

    def __init__(self, *, p_mix: float, warm_up: int, reputation: bool) -> None:
        self.p_mix, self.warm_up, self.reputation = p_mix, warm_up, reputation

    def start(self, parties: int, layout: Layout) -> None:
        self.global_reputation = torch.zeros(parties)
        self.local_reputation = torch.zeros(parties, parties)
        self.partner = torch.zeros(0, dtype=torch.int64)

    def select(self, candidates: Tensor, round: Round) -> Tensor:
        if not self.reputation or round.index < self.warm_up:
            return candidates
        trusted = self.global_reputation[candidates] >= self.global_reputation.quantile(0.25)
        return candidates[trusted] if trusted.any() else candidates

    def exchange(self, updates: Tensor, round: Round) -> Tensor:
        """Every pair swaps the coordinates of a common random mask: m_k + m_j = w_k + w_j coordinate by coordinate."""
        self.partner = self._pairs(round)
        round.active = self.partner >= 0
        mixed = updates.clone()
        groups = torch.arange(len(updates))
        for k in range(len(updates)):
            j = int(self.partner[k])
            if j > k:
                mask = (torch.rand(updates.shape[1], generator=round.rng) < self.p_mix).to(updates.device)
                mixed[k] = torch.where(mask, updates[j], updates[k])
                mixed[j] = torch.where(mask, updates[k], updates[j])
                groups[j] = k
        if self.p_mix > 0:
            round.publish(groups=groups)
            # Each paired party sends a padded fragment to its partner and the pad to the server, and a public key.
            paired = int(round.active.sum())
            round.send(bytes_sent=paired * (2 * updates.shape[1] * BYTES_PER_FLOAT + KEY_BYTES), messages=3 * paired)
        return mixed

    def _pairs(self, round: Round) -> Tensor:
        """Row of each party's partner, -1 for those left over (spec 09, step 2)."""
        partner = torch.full((len(round.parties),), -1, dtype=torch.int64)
        for _ in range(PAIRING_TRIES):
            free = (partner < 0).nonzero().squeeze(1)
            free = free[torch.randperm(len(free), generator=round.rng)]
            for k, j in zip(free[0::2].tolist(), free[1::2].tolist(), strict=False):
                if self._accepts(k, j, round) and self._accepts(j, k, round):
                    partner[k], partner[j] = j, k
            if (partner < 0).sum() < 2:
                break
        return partner

    def _accepts(self, k: int, j: int, round: Round) -> bool:
        if not self.reputation or round.index < self.warm_up:
            return True
        mine = self.local_reputation[round.parties[k]]
        return bool(mine[round.parties[j]] >= mine.quantile(0.25))

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        if not self.reputation:
            return uploads.mean(dim=0)
        rows = round.active.nonzero().squeeze(1)
        parties, partners = round.parties[rows], round.parties[self.partner[rows]]
        credit = similarity(uploads, round.layout).cpu()
        self.global_reputation.index_add_(0, parties, credit)
        self.global_reputation.index_add_(0, partners, credit)
        self.local_reputation[parties, partners] += credit
        self.local_reputation[partners, parties] += credit
        if round.index < self.warm_up:
            return uploads.median(dim=0).values
        trust = torch.tanh(self.global_reputation - self.global_reputation.quantile(0.25)).clamp_min(0)[parties]
        weights = trust if trust.sum() > 0 else torch.ones_like(trust)
        return (weights / weights.sum()).to(uploads) @ uploads


def similarity(uploads: Tensor, layout: Layout) -> Tensor:
    """How much each upload (n, d) is like the others, (n,): 0.2 norm + 0.8 last-layer direction, less the quartile.

    A score that is not a number (an all-zero or infinite upload) counts as 0, as in the authors' code.
    """
    norms = uploads.norm(dim=1)
    distance = (norms.median() - norms).abs()
    by_norm = 1 - distance / distance.max().clamp_min(1e-20)
    last = torch.cat([uploads[:, part] for part in list(layout.slices().values())[-2:]], dim=1)
    centre = last.median(dim=0).values
    by_direction = (torch.nn.functional.cosine_similarity(last, centre[None], dim=1) + 1) / 2
    score = 0.2 * by_norm + 0.8 * by_direction
    return (score - score.nanquantile(0.25)).nan_to_num(0.0)
