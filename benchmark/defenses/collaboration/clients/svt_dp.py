"""Record-level differential privacy on selected coordinates by the sparse vector technique.

Shokri, Shmatikov, *Privacy-Preserving Deep Learning*, CCS 2015, figure 12. Coordinates are visited in random order; one
whose noisy magnitude passes a noisy threshold is uploaded with noise, until c = ceil(share d) are. Of the budget E of
an upload, 8/9 E pay for the choice and 2/9 E for the values: that is 10/9 E together, and this accountant charges it.

The guarantee is the paper's, with its gaps: the sensitivity 2 gamma is assumed of a clipped update of many local steps.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from benchmark.defenses.collaboration.clients.selective_sharing import check_share, sparse
from benchmark.errors import ConfigError, positive
from benchmark.seeds import child
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 1
WINDOW = 256


class SVTDP(FederatedDefense):
    """DSSGD with noise.

    Args:
        share: theta_u in (0, 1]; at most ceil(share d) coordinates are uploaded.
        epsilon_per_parameter: E / c, the budget behind each of the c coordinates of each upload. It is not the
            epsilon of anything that anybody holds: the record's is c x 10/9 x the party's uploads times as large.
        clip: gamma, bound on the magnitude of an uploaded coordinate, in gradient units.
        threshold: tau, in gradient units.
    """

    def __init__(self, *, share: float, epsilon_per_parameter: float, clip: float, threshold: float) -> None:
        check_share("svt_dp", share)
        positive("svt_dp.epsilon_per_parameter", epsilon_per_parameter)
        positive("svt_dp.clip", clip)
        if threshold < 0:
            raise ConfigError(f"svt_dp.threshold must be at least 0, got {threshold}.")
        self.share, self.budget, self.clip, self.threshold = share, epsilon_per_parameter, clip, threshold

    def start(self, parties: int, layout: Layout) -> None:
        self.limit = math.ceil(self.share * layout.size)
        self.uploads = torch.zeros(parties, dtype=torch.int64)

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        self.uploads[round.parties] += 1
        rng = np.random.default_rng(child(round.rng))
        clipped = updates.clamp(-self.clip, self.clip).double().cpu().numpy()
        sent = np.stack([self._upload(row, rng) for row in clipped])
        sparse(round, len(updates), self.limit, updates.shape[1])
        return torch.from_numpy(sent).to(updates)

    def _upload(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One party's upload (d,) from its clipped update (d,)."""
        # 2 c x sensitivity / E with E / c given: the number of coordinates cancels.
        choosing = 2 * (2 * self.clip) / (8 / 9 * self.budget)
        telling = 2 * (2 * self.clip) / (2 / 9 * self.budget)
        order = rng.permutation(len(row))
        heights = np.abs(row[order]) + rng.laplace(0, 2 * choosing, len(row))
        bars = self.threshold + rng.laplace(0, choosing, self.limit)
        chosen = order[crossings(heights, bars)]
        sent = np.zeros_like(row)
        sent[chosen] = np.clip(row[chosen] + rng.laplace(0, telling, len(chosen)), -self.clip, self.clip)
        return sent

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float]:
        """What a record has cost so far: pure DP, basic composition over the uploads of the party that holds it."""
        return float(10 / 9 * self.limit * self.budget * int(self.uploads.max())), 0.0


def crossings(heights: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """Positions of ``heights`` (n,) that reach the current bar, visited in order; each one found moves on to the next
    bar, and there are no more when ``bars`` (c,) are used up."""
    found, position = [], 0
    for bar in bars:
        while position < len(heights):
            ahead = heights[position : position + WINDOW] >= bar
            first = int(ahead.argmax())
            if ahead[first]:
                found.append(position + first)
                position += first + 1
                break
            position += WINDOW
        else:
            break
    return np.array(found, dtype=np.int64)
