"""Uploads rounded to a few bits: a baseline that blurs single values as a side effect of saving traffic.

Uniform levels between the smallest and the largest value of each tensor, with stochastic rounding so that the mean over
parties stays right (Alistarh et al., *QSGD*, NeurIPS 2017, in its simplest form).
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.defenses.base import Defense, Round
from benchmark.errors import ConfigError
from benchmark.training.federated import BYTES_PER_FLOAT

VERSION = 1
MOST_BITS = 16


class UpdateQuantisation(Defense):
    """Quantised uploads.

    Args:
        bits: of each value, 1 to 16; every tensor sends its smallest and largest value in full besides.
    """

    def __init__(self, *, bits: int) -> None:
        if not 1 <= bits <= MOST_BITS:
            raise ConfigError(f"update_quantisation.bits must be from 1 to {MOST_BITS}, got {bits}.")
        self.levels = 2**bits - 1
        self.bytes_per_value = bits / 8

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        sent = torch.empty_like(updates)
        for part in round.layout.slices().values():
            low, high = updates[:, part].aminmax(dim=1, keepdim=True)
            step = ((high - low) / self.levels).clamp_min(torch.finfo(updates.dtype).tiny)
            position = (updates[:, part] - low) / step
            up = torch.rand(position.shape, generator=round.rng).to(position) < position - position.floor()
            sent[:, part] = low + (position.floor() + up) * step
        saved = updates.shape[1] * (BYTES_PER_FLOAT - self.bytes_per_value)
        spent = 2 * BYTES_PER_FLOAT * len(round.layout.names)
        round.send(bytes_sent=len(updates) * (spent - saved), messages=0)
        return sent
