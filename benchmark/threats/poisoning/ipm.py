"""Inner product manipulation (IPM)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from benchmark.parameters import BelowOne, Positive
from benchmark.settings.collaboration.games.contributions import ContributionSurface
from benchmark.threats.poisoning.omniscient import OmniscientPoison

VERSION = 1


class IPM(OmniscientPoison):
    """Attack that uploads -epsilon mu, so that the aggregate's inner product with the descent direction turns negative.

    Xie, Koyejo, Gupta, *Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation*, UAI 2019,
    section 3. In terms of the base class: p = -mu and g = 1 + epsilon.

    Args:
        epsilon: below 1 the upload stays near the honest updates and deceives rules that judge by distance; above (n -
            m) / m it reverses the plain mean.
        distances, fraction, follows_exchange, adaptive: as in
            :class:`~benchmark.threats.poisoning.omniscient.OmniscientPoison`.
    """

    def __init__(
        self,
        *,
        epsilon: float = 5.0,
        distances: Sequence[Positive] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0),
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(distances=distances, fraction=fraction, follows_exchange=follows_exchange, adaptive=adaptive)
        self.epsilon = epsilon

    def direction(self, honest: Tensor) -> Tensor:
        return -honest.mean(dim=0)

    def strength(self, honest: Tensor, direction: Tensor, surface: ContributionSurface) -> float:
        return 1 + self.epsilon
