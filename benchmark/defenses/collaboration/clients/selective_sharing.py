"""Selective sharing: a party uploads only a share of its update's coordinates.

Shokri, Shmatikov, *Privacy-Preserving Deep Learning*, CCS 2015 (DSSGD): the upload share theta_u of the ``largest`` or
of ``random`` coordinates, each clipped to [-gamma, gamma]; the download share theta_d of the coordinates that uploads
changed most often recently, by a count on the server that halves with every upload.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from benchmark.parameters import Positive, Share
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.settings.collaboration.rounds import BYTES_PER_FLOAT
from benchmark.training.functional import Layout

VERSION = 2
BYTES_PER_INDEX = 4
TIE_BREAK = 1e-6  # far below any relevant difference of two counts


class SelectiveSharing(FederatedDefense):
    """Client defense: the upload of DSSGD without noise.

    Args:
        share: theta_u, share of the coordinates that a party uploads, in (0, 1]; ceil(share d) of them.
        download_share: theta_d, share of the coordinates that a party takes from the global model, in (0, 1]; the
            others keep the values of its own last model.
        choice: ``largest`` magnitudes, or ``random`` ones.
        clip: bound on the magnitude of an uploaded coordinate, in gradient units (the paper's gamma over the learning
            rate), or None.
    """

    def __init__(
        self,
        *,
        share: Share = 0.1,
        download_share: Share = 1.0,
        choice: Literal["largest", "random"] = "largest",
        clip: Positive | None = None,
    ) -> None:
        self.share, self.download_share, self.choice, self.clip = share, download_share, choice, clip

    def start(self, parties: int, layout: Layout) -> None:
        self.upload_counts = torch.zeros(layout.size)

    def download(self, params: Tensor, local: Tensor, round: Round) -> Tensor | None:
        if self.download_share == 1:
            return None
        size = len(params)
        order = self.upload_counts + torch.rand((len(local), size), generator=round.rng) * TIE_BREAK
        kept = order.topk(math.ceil(self.download_share * size), dim=1).indices.to(params.device)
        mask = torch.zeros_like(local, dtype=torch.bool).scatter(1, kept, True)
        round.publish(downloaded=mask)
        count_sparse_upload(round, len(local), kept.shape[1], size)
        return torch.where(mask, params, local)

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        if self.clip is not None:
            updates = updates.clamp(-self.clip, self.clip)
        if self.share == 1:
            self._count(torch.ones_like(updates, dtype=torch.bool))
            return updates
        size = updates.shape[1]
        order = updates.abs() if self.choice == "largest" else torch.rand(updates.shape, generator=round.rng)
        kept = order.to(updates.device).topk(math.ceil(self.share * size), dim=1).indices
        mask = torch.zeros_like(updates, dtype=torch.bool).scatter(1, kept, True)
        round.publish(mask=mask)
        self._count(mask)
        count_sparse_upload(round, len(updates), kept.shape[1], size)
        return updates * mask

    def _count(self, mask: Tensor) -> None:
        """Update the server's counts by the coordinates (n, d) that were just uploaded."""
        self.upload_counts = self.upload_counts / 2 + mask.sum(dim=0).cpu()


def count_sparse_upload(round: Round, parties: int, kept: int, size: int) -> None:
    """Count an upload of ``kept`` of ``size`` coordinates with positions in place of a full one, if that is smaller."""
    full = size * BYTES_PER_FLOAT
    saved = max(0, full - kept * (BYTES_PER_FLOAT + BYTES_PER_INDEX))
    round.send(bytes_sent=-parties * saved, messages=0)
