"""Min-Max: an update no farther from any honest update than the two farthest honest updates are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.metrics.distances import squared_distances
from benchmark.parameters import BelowOne, Positive
from benchmark.settings.collaboration.games.contributions import ContributionSurface
from benchmark.threats.poisoning.omniscient import OmniscientPoison

VERSION = 1


class MinMax(OmniscientPoison):
    """Attack that uploads mu + g p with the largest g such that max_i ||u - u_i|| <= max_ij ||u_i - u_j||.

    Shejwalkar, Houmansadr, *Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated
    Learning*, NDSS 2021, equation 5 (the attack that does not know the aggregation rule). Deviation: the paper bisects;
    each constraint is a quadratic in g, so its root is computed.

    Args:
        direction: p: ``unit`` -mu / ||mu||, ``std`` -sigma, ``sign`` -sign(mu).
        distances, fraction, follows_exchange, adaptive: as in
            :class:`~benchmark.threats.poisoning.omniscient.OmniscientPoison`.
    """

    def __init__(
        self,
        *,
        direction: Literal["unit", "std", "sign"] = "std",
        distances: Sequence[Positive] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0),
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(distances=distances, fraction=fraction, follows_exchange=follows_exchange, adaptive=adaptive)
        self.kind = direction

    def direction(self, honest: Tensor) -> Tensor:
        mean = honest.mean(dim=0)
        if self.kind == "unit":
            return -F.normalize(mean, dim=0)
        return -honest.std(dim=0, unbiased=len(honest) > 1) if self.kind == "std" else -mean.sign()

    def strength(self, honest: Tensor, direction: Tensor, surface: ContributionSurface) -> float:
        return self.largest(honest.double(), direction.double())

    @staticmethod
    def largest(honest: Tensor, direction: Tensor) -> float:
        """Return the largest g for the honest updates (n, d) and p (d,): a g^2 + 2 b_i g + c_i <= D^2 for every i."""
        offsets = honest.mean(dim=0) - honest
        a, b, c = direction @ direction, offsets @ direction, offsets.square().sum(dim=1)
        if a == 0:
            return 0.0
        room = (squared_distances(honest).max() - c).clamp_min(0)
        return float(((torch.sqrt(b * b + a * room) - b) / a).min())
