"""Secure aggregation: the server learns the sum of the uploads and nothing else.

Bonawitz et al., CCS 2017; the protocol is :mod:`benchmark.crypto.secure_sum`. Updates become fixed-point numbers modulo
2^32. It does not protect against a server that chooses the model (Gilbert 2022, arXiv 2211.06324): see the
``broadcast`` surface.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmark.crypto.secure_sum import MODULUS_BITS, ProtocolAborted, SecureSum, traffic
from benchmark.errors import ConfigError, Refused
from benchmark.parameters import BelowOne, Count, Positive, Share
from benchmark.seeds import random_bytes
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class SecureAggregation(FederatedDefense):
    """Client defense with pairwise masks that cancel in the sum.

    Args:
        mode: ``ideal`` returns the protocol's result without running it (every row is the mean of the remaining
            parties); ``masked`` runs it: rows are masked vectors, float64, whose ordinary sum is the sum of the
            updates.
        max_value: entries of an update, in gradient units, are clipped to +- this.
        fraction_bits: the fixed-point step is 2^-fraction_bits.
        threshold: share of a round's parties, in (0, 1], needed to open a sum.
        dropout: share of a round's parties, in [0, 1), that drop out after masking.

    Raises:
        Refused: fewer than two parties take part in a round.
        ProtocolAborted: fewer parties than the threshold remain.
        ConfigError: the sum does not fit into 32 bits.
    """

    def __init__(
        self,
        *,
        mode: Literal["ideal", "masked"] = "ideal",
        max_value: Positive = 16.0,
        fraction_bits: Count = 20,
        threshold: Share = 0.6,
        dropout: BelowOne = 0.0,
    ) -> None:
        self.mode, self.max_value, self.scale = mode, max_value, 2.0**fraction_bits
        self.threshold, self.dropout = threshold, dropout

    def exchange(self, updates: Tensor, round: Round) -> Tensor:
        """Mask all updates; a party that drops out uploads zeros, is inactive and belongs to no sum."""
        n = len(updates)
        self._check_capacity(n)
        order = torch.randperm(n, generator=round.rng)
        gone = order[: int(self.dropout * n)]
        round.active[gone] = False
        survivors = round.active.nonzero().squeeze(1)
        needed = max(2, math.ceil(self.threshold * n))
        if len(survivors) < needed:
            raise ProtocolAborted(
                f"Only {len(survivors)} of {n} parties are left, but secure aggregation opens a sum of no fewer than "
                f"{needed}; lower secure_aggregation.threshold or secure_aggregation.dropout."
            )
        groups = torch.arange(n)
        groups[survivors] = survivors[0]
        round.publish(groups=groups)
        bytes_sent, messages = traffic(n, len(survivors))
        round.send(bytes_sent=bytes_sent, messages=messages)
        fixed = self.encode_fixed(updates)
        if self.mode == "ideal":
            mean = fixed[survivors].sum(dim=0).double() / (self.scale * len(survivors))
            return round.active[:, None].to(updates) * mean.to(updates)
        protocol = SecureSum(parties=n, threshold=needed, random_bytes=lambda k: random_bytes(k, round.rng))
        return self._masked(protocol, fixed, survivors).to(updates.device)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        return uploads.double().mean(dim=0).to(round.params)

    def encode_fixed(self, updates: Tensor) -> Tensor:
        """Return updates (n, d) as int64 (n, d) multiples of the step; NaN counts as 0."""
        clipped = updates.double().nan_to_num(0.0).clamp(-self.max_value, self.max_value)
        return (clipped * self.scale).round().to(torch.int64)

    def _masked(self, protocol: SecureSum, fixed: Tensor, survivors: Tensor) -> Tensor:
        """Return masked rows (n, d) as the server holds them once the sum is open.

        A masked row is known modulo 2^32 only. The first remaining party's row is shifted to the representative for
        which the rows add up to the opened sum without a modulus, the form in which other code reads uploads.
        """
        rows = fixed.cpu().numpy().astype(np.uint32)
        uploads = {party: protocol.mask(party, rows[party]) for party in survivors.tolist()}
        total = protocol.open(uploads).astype(np.int32).astype(np.int64)
        lifted = torch.zeros(fixed.shape, dtype=torch.int64)
        for party, values in uploads.items():
            lifted[party] = torch.from_numpy(values.astype(np.int64))
        lifted[survivors[0]] += torch.from_numpy(total) - lifted.sum(dim=0)
        return lifted.double() / self.scale

    def _check_capacity(self, n: int) -> None:
        if n < 2:
            raise Refused("Secure aggregation hides a party among others, but one party alone takes part in the round.")
        if n * self.max_value * self.scale >= 2 ** (MODULUS_BITS - 1):
            raise ConfigError(
                f"The sum of {n} updates with entries up to {self.max_value} does not fit into {MODULUS_BITS} bits; "
                "lower secure_aggregation.max_value or secure_aggregation.fraction_bits."
            )
