"""Inner product manipulation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from benchmark.settings.collaboration.games.contributions import ContributionSurface
from benchmark.threats.poisoning.omniscient import OmniscientPoison

VERSION = 1


class IPM(OmniscientPoison):
    """Hands out -epsilon mu, so that the aggregate's inner product with the true descent direction turns negative.

    Xie, Koyejo, Gupta, *Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation*, UAI 2019,
    section 3. In terms of the base: p = -mu and g = 1 + epsilon.

    Args:
        epsilon: below 1 it stays near the honest updates and deceives rules that judge by distance; more than
            (n - m) / m turns the plain mean around.
    """

    def __init__(
        self, *, epsilon: float, distances: Sequence[float], fraction: float, follows_exchange: bool, adaptive: bool
    ) -> None:
        super().__init__(distances=distances, fraction=fraction, follows_exchange=follows_exchange, adaptive=adaptive)
        self.epsilon = epsilon

    def direction(self, honest: Tensor) -> Tensor:
        return -honest.mean(dim=0)

    def strength(self, honest: Tensor, direction: Tensor, surface: ContributionSurface) -> float:
        return 1 + self.epsilon
