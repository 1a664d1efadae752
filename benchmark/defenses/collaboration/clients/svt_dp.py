"""Record-level differential privacy on selected coordinates by the sparse vector technique.

Shokri, Shmatikov, *Privacy-Preserving Deep Learning*, CCS 2015, figure 12. Coordinates are visited in random order; one
whose noisy magnitude passes a noisy threshold is uploaded with noise, until c = ceil(share d) are. Of the budget E of
an upload, 8/9 E pay for the selection and 2/9 E for the values: together 10/9 E, which this accountant charges.

The guarantee is the paper's, with its gap: the sensitivity 2 gamma is assumed for a clipped update of many local steps.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from benchmark.defenses.collaboration.clients.selective_sharing import count_sparse_upload
from benchmark.parameters import NonNegative, Positive, Share
from benchmark.seeds import child
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 1
BLOCK_SIZE = 256


class SVTDP(FederatedDefense):
    """Client defense: DSSGD with noise.

    Args:
        share: theta_u in (0, 1]; at most ceil(share d) coordinates are uploaded.
        epsilon_per_parameter: E / c, the budget of each of the c coordinates of each upload. It is not the epsilon of a
            record, which is c x 10/9 x the party's uploads times as large.
        clip: gamma, bound on the magnitude of an uploaded coordinate, in gradient units.
        threshold: tau, in gradient units.
    """

    def __init__(
        self,
        *,
        share: Share = 0.1,
        epsilon_per_parameter: Positive = 100.0,
        clip: Positive = 0.2,
        threshold: NonNegative = 0.02,
    ) -> None:
        self.share, self.budget, self.clip, self.threshold = share, epsilon_per_parameter, clip, threshold

    def start(self, parties: int, layout: Layout) -> None:
        self.limit = math.ceil(self.share * layout.size)
        self.uploads = torch.zeros(parties, dtype=torch.int64)

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        self.uploads[round.parties] += 1
        rng = np.random.default_rng(child(round.rng))
        clipped = updates.clamp(-self.clip, self.clip).double().cpu().numpy()
        sent = np.stack([self._upload(row, rng) for row in clipped])
        count_sparse_upload(round, len(updates), self.limit, updates.shape[1])
        return torch.from_numpy(sent).to(updates)

    def _upload(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one party's upload (d,) from its clipped update (d,)."""
        # 2 c x sensitivity / E with E / c given: the number of coordinates cancels.
        threshold_scale = 2 * (2 * self.clip) / (8 / 9 * self.budget)
        value_scale = 2 * (2 * self.clip) / (2 / 9 * self.budget)
        order = rng.permutation(len(row))
        magnitudes = np.abs(row[order]) + rng.laplace(0, 2 * threshold_scale, len(row))
        thresholds = self.threshold + rng.laplace(0, threshold_scale, self.limit)
        chosen = order[above_thresholds(magnitudes, thresholds)]
        sent = np.zeros_like(row)
        sent[chosen] = np.clip(row[chosen] + rng.laplace(0, value_scale, len(chosen)), -self.clip, self.clip)
        return sent

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float]:
        """Return (epsilon, 0) of a record so far: pure DP, basic composition over the uploads of its party."""
        return float(10 / 9 * self.limit * self.budget * int(self.uploads.max())), 0.0


def above_thresholds(magnitudes: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return positions of ``magnitudes`` (n,) that reach the current threshold, visited in order.

    Each one found moves on to the next of ``thresholds`` (c,); the search ends when these are used up.
    """
    found, position = [], 0
    for threshold in thresholds:
        while position < len(magnitudes):
            ahead = magnitudes[position : position + BLOCK_SIZE] >= threshold
            first = int(ahead.argmax())
            if ahead[first]:
                found.append(position + first)
                position += first + 1
                break
            position += BLOCK_SIZE
        else:
            break
    return np.array(found, dtype=np.int64)
