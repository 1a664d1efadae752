"""Min-Sum: an update whose summed squared distance to the honest updates is at most that of an honest one."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.metrics.distances import squared_distances
from benchmark.threats.poisoning.min_max import MinMax

VERSION = 1


class MinSum(MinMax):
    """Attack that uploads mu + g p with the largest g such that sum_i ||u - u_i||^2 <= max_i sum_j ||u_i - u_j||^2.

    Shejwalkar, Houmansadr, *Manipulating the Byzantine*, NDSS 2021, equation 6. The offsets from the mean sum to zero,
    which leaves n g^2 ||p||^2 + sum_i ||mu - u_i||^2 on the left.
    """

    @staticmethod
    def largest(honest: Tensor, direction: Tensor) -> float:
        norm = float(direction.norm())
        if norm == 0:
            return 0.0
        spread = (honest.mean(dim=0) - honest).square().sum()
        room = (squared_distances(honest).sum(dim=1).max() - spread).clamp_min(0)
        return float(torch.sqrt(room / len(honest))) / norm
