"""Only a share of the coordinates of an upload is sent.

Shokri, Shmatikov, *Privacy-Preserving Deep Learning*, CCS 2015 (DSSGD): the upload share theta_u with the ``largest``
or with ``random`` coordinates, each clipped to [-gamma, gamma]. Everything is downloaded (theta_d = 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.defenses.base import Defense, Round
from benchmark.errors import ConfigError, positive
from benchmark.training.federated import BYTES_PER_FLOAT

VERSION = 1
BYTES_PER_INDEX = 4


class SelectiveSharing(Defense):
    """DSSGD's upload without any noise.

    Args:
        share: theta_u, share of the coordinates that a party uploads, in (0, 1]; ceil(share d) of them.
        choice: ``largest`` magnitudes, or ``random`` ones.
        clip: bound on the magnitude of an uploaded coordinate, in gradient units (the paper's gamma over the learning
            rate), or None.
    """

    def __init__(self, *, share: float, choice: str, clip: float | None) -> None:
        check_share("selective_sharing", share)
        if choice not in ("largest", "random"):
            raise ConfigError(f"selective_sharing.choice must be largest or random, got {choice!r}.")
        if clip is not None:
            positive("selective_sharing.clip", clip)
        self.share, self.choice, self.clip = share, choice, clip

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        if self.clip is not None:
            updates = updates.clamp(-self.clip, self.clip)
        if self.share == 1:
            return updates
        size = updates.shape[1]
        order = updates.abs() if self.choice == "largest" else torch.rand(updates.shape, generator=round.rng)
        kept = order.to(updates.device).topk(math.ceil(self.share * size), dim=1).indices
        mask = torch.zeros_like(updates, dtype=torch.bool).scatter(1, kept, True)
        round.publish(mask=mask)
        sparse(round, len(updates), kept.shape[1], size)
        return updates * mask


def check_share(name: str, share: float) -> None:
    """Refuse a share that is none."""
    if not 0 < share <= 1:
        raise ConfigError(f"{name}.share must be in (0, 1], got {share}.")


def sparse(round: Round, parties: int, kept: int, size: int) -> None:
    """Count an upload of ``kept`` of ``size`` coordinates with their positions in place of a full one, if smaller."""
    full = size * BYTES_PER_FLOAT
    saved = max(0, full - kept * (BYTES_PER_FLOAT + BYTES_PER_INDEX))
    round.send(bytes_sent=-parties * saved, messages=0)
