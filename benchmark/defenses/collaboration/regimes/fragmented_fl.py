"""Fragmented federated learning: parties swap random fragments of their updates, the server scores what it receives.

Jebreel, Domingo-Ferrer, Blanco-Justicia, Sánchez, *Enhanced Security and Privacy via Fragmented Federated Learning*,
IEEE TNNLS 2024 (arXiv 2207.05978). The exchange is linear, so mixing updates equals the paper's mixing of models.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.crypto import fragments
from benchmark.defenses.collaboration.aggregation.ranks import median
from benchmark.parameters import BelowOne, CountOrZero, Fraction
from benchmark.seeds import random_bytes
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 2
PAIRING_TRIES = 20
FRACTION_BITS = 24
MAX_ENTRY = 2.0**38  # entries of an update are clipped to +- this, so that they fit into 64 bits
BYTES_PER_FLOAT = 4


class FragmentedFL(FederatedDefense):
    """Protocol with pairwise mixing (privacy) and reputation (poisoning), each of which may be switched off.

    Updates become fixed-point numbers, in which pads cancel and sums are exact; NaN counts as 0. A party without a
    partner contributes nothing in that round.

    Args:
        p_mix: share of the coordinates that a pair exchanges; 0 turns mixing off.
        warm_up: rounds in which all parties are selected and accepted and the median aggregates.
        reputation: False aggregates by the mean of all uploads.
        wire: ``encrypted`` sends every message of :mod:`benchmark.crypto.fragments`; ``counted`` computes the result
            directly, with the same numbers of bytes and messages.
        dropout: share of a round's parties, in [0, 1), that drop out: alternately before sending their fragment (the
            partner then has nothing to upload) and after.
    """

    def __init__(
        self,
        *,
        p_mix: Fraction = 0.5,
        warm_up: CountOrZero = 20,
        reputation: bool = True,
        wire: Literal["counted", "encrypted"] = "counted",
        dropout: BelowOne = 0.0,
    ) -> None:
        self.p_mix, self.warm_up, self.reputation = p_mix, warm_up, reputation
        self.wire, self.dropout = wire, dropout

    def start(self, parties: int, layout: Layout) -> None:
        self.global_reputation = torch.zeros(parties)
        self.local_reputation = torch.zeros(parties, parties)
        self.partner = torch.zeros(0, dtype=torch.int64)

    def trust(self) -> Tensor | None:
        return self.global_reputation if self.reputation else None

    def select(self, candidates: Tensor, round: Round) -> Tensor:
        """Return the candidates whose reputation is not in the lowest quarter of all, once the warm-up is over."""
        if not self.reputation or round.index < self.warm_up:
            return candidates
        trusted = self.global_reputation[candidates] >= quartile(self.global_reputation)
        return candidates[trusted] if trusted.any() else candidates

    # -- the parties' side -------------------------------------------------------------------------
    def exchange(self, updates: Tensor, round: Round) -> Tensor:
        """Swap the coordinates of a common random mask in every pair: m_k + m_j = w_k + w_j coordinate by coordinate.

        Rows of parties that upload nothing are zero.
        """
        self.partner = self._draw_pairs(round)
        paired = (self.partner >= 0).nonzero().squeeze(1)
        silent, gone = self._sample_dropouts(len(updates), round)
        stuck = silent | silent[self.partner]  # row -1, of parties without a partner, is masked below
        round.active = (self.partner >= 0) & ~stuck & ~gone
        if self.p_mix == 0:
            return updates
        groups = torch.arange(len(updates))
        groups[paired] = torch.minimum(paired, self.partner[paired])
        round.publish(groups=groups)
        first = paired[paired < self.partner[paired]]
        if self.wire == "encrypted":
            return self._encrypted(updates, first, silent, gone, round)
        self._count(len(paired), int(silent[paired].sum()), int(round.active.sum()), updates.shape[1], round)
        mixed = from_fixed(to_fixed(updates), updates)
        drawn = torch.rand((len(first), updates.shape[1]), generator=round.rng)
        mask = drawn.to(updates.device, non_blocking=True) < self.p_mix
        first, second = torch.stack([first, self.partner[first]]).to(updates.device, non_blocking=True)
        mixed[first], mixed[second] = (
            torch.where(mask, mixed[second], mixed[first]),
            torch.where(mask, mixed[first], mixed[second]),
        )
        return torch.where(round.active[:, None].to(mixed.device, non_blocking=True), mixed, 0)

    def _encrypted(self, updates: Tensor, first: Tensor, silent: Tensor, gone: Tensor, round: Round) -> Tensor:
        fixed = to_fixed(updates).cpu().numpy()
        known = dict(enumerate(round.parties.tolist()))
        rows = {party: row for row, party in known.items()}

        def lost(kind: int, sender: int) -> bool:
            row = rows[sender]
            return bool(silent[row] if kind == fragments.FRAGMENT else gone[row] and kind == fragments.UPLOAD)

        wire = fragments.Exchange(round.index, self.p_mix, lambda k: random_bytes(k, round.rng), lost)
        pairs = [(known[k], known[int(self.partner[k])]) for k in first.tolist()]
        opened = wire.run(pairs, {party: fixed[row] for row, party in known.items()})
        counted = len(opened) * updates.shape[1] * BYTES_PER_FLOAT
        round.send(bytes_sent=wire.traffic.bytes_sent - counted, messages=wire.traffic.messages - len(opened))
        mixed = from_fixed(torch.from_numpy(np.zeros_like(fixed)), updates)
        for party, values in opened.items():
            mixed[rows[party]] = from_fixed(torch.from_numpy(values), updates)
        return mixed

    @staticmethod
    def _count(paired: int, silent: int, uploads: int, size: int, round: Round) -> None:
        """Count the traffic beyond the plain upload of d floats, which the setting counts."""
        sent = fragments.traffic(paired, silent, uploads, size)
        plain = uploads * size * BYTES_PER_FLOAT
        round.send(bytes_sent=sent.bytes_sent - plain, messages=sent.messages - uploads)

    def _sample_dropouts(self, n: int, round: Round) -> tuple[Tensor, Tensor]:
        """Return bool (n,) twice: parties that drop out before sending their fragment, and those that do after."""
        silent, gone = torch.zeros(2, n, dtype=torch.bool)
        if self.dropout:
            dropped = torch.randperm(n, generator=round.rng)[: round_half_up(self.dropout * n)]
            silent[dropped[0::2]], gone[dropped[1::2]] = True, True
        return silent, gone

    def _draw_pairs(self, round: Round) -> Tensor:
        """Return the row of each party's partner (-1: none), by random proposals that both sides accept."""
        partner = torch.full((len(round.parties),), -1, dtype=torch.int64)
        accepts = self._acceptance(round)
        for _ in range(PAIRING_TRIES):
            free = (partner < 0).nonzero().squeeze(1)
            free = free[torch.randperm(len(free), generator=round.rng)]
            half = len(free) // 2
            k, j = free[:half], free[half : 2 * half]
            agreed = accepts[k, j] & accepts[j, k]
            partner[k[agreed]], partner[j[agreed]] = j[agreed], k[agreed]
            if (partner < 0).sum() < 2:
                break
        return partner

    def _acceptance(self, round: Round) -> Tensor:
        """Return bool (n, n): whether row k's party accepts row j's as a partner."""
        n = len(round.parties)
        if not self.reputation or round.index < self.warm_up:
            return torch.ones(n, n, dtype=torch.bool)
        theirs = self.local_reputation[round.parties]
        return theirs[:, round.parties] >= quartile(theirs)[:, None]

    # -- the server's side -------------------------------------------------------------------------
    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        """Score the mixed uploads, credit each party with its own score, and weigh uploads by the credit so far."""
        if not self.reputation:
            return uploads.mean(dim=0)
        rows = round.active.nonzero().squeeze(1)
        parties, partners = round.parties[rows], round.parties[self.partner[rows]]
        credit = similarity(uploads, round.layout).cpu()
        self.global_reputation[parties] += credit
        self.local_reputation[parties, partners] += credit
        if round.index < self.warm_up:
            return median(uploads)
        trust = torch.tanh(self.global_reputation - quartile(self.global_reputation)).clamp_min(0)[parties]
        weights = trust if trust.sum() > 0 else torch.ones_like(trust)
        return (weights / weights.sum()).to(uploads) @ uploads


def similarity(uploads: Float[Tensor, "n d"], layout: Layout) -> Float[Tensor, " n"]:
    """Return the score (n,) of uploads (n, d): 0.2 norm + 0.8 last-layer direction, minus the first quartile.

    A NaN score (an all-zero or infinite upload) counts as 0, as in the authors' code.
    """
    norms = uploads.norm(dim=1)
    distance = (norms.median() - norms).abs()
    by_norm = 1 - distance / distance.max().clamp_min(1e-20)
    last = torch.cat([uploads[:, part] for part in list(layout.slices().values())[-2:]], dim=1)
    centre = median(last)
    by_direction = (torch.nn.functional.cosine_similarity(last, centre[None], dim=1) + 1) / 2
    score = 0.2 * by_norm + 0.8 * by_direction
    return (score - score.nanquantile(0.25)).nan_to_num(0.0)


def quartile(values: Tensor) -> Tensor:
    """Return the first quartile along the last dimension, (..., n) -> (...)."""
    return values.quantile(0.25, dim=-1)


def to_fixed(updates: Float[Tensor, "n d"]) -> Int[Tensor, "n d"]:
    """Return float (n, d) as int64 (n, d) multiples of 2^-24; NaN becomes 0."""
    cut = updates.double().nan_to_num(0.0, MAX_ENTRY, -MAX_ENTRY).clamp(-MAX_ENTRY, MAX_ENTRY)
    return (cut * 2**FRACTION_BITS).round().to(torch.int64)


def from_fixed(fixed: Tensor, like: Tensor) -> Tensor:
    """Return the inverse of :func:`to_fixed`, exact in float32 for its outputs; type and device of ``like``."""
    return (fixed.double() / 2**FRACTION_BITS).to(like)


def round_half_up(value: float) -> int:
    return int(value + 0.5)
