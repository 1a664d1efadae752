"""A little is enough: deviations within the spread of the honest updates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.parameters import BelowOne, Positive
from benchmark.settings.collaboration.games.contributions import ContributionSurface
from benchmark.threats.poisoning.omniscient import OmniscientPoison

VERSION = 1


class ALIE(OmniscientPoison):
    """Attack that uploads mu - z sigma, coordinate by coordinate.

    Baruch, Baruch, Goldberg, *A Little Is Enough: Circumventing Defenses For Distributed Learning*, NeurIPS 2019,
    algorithm 3: z = Phi^-1((n - m - s) / (n - m)) with s = floor(n / 2 + 1) - m, the deviation at which s honest
    parties are expected to lie beyond the malicious ones.

    Args:
        z: None for the paper's formula, which gives 0 for a small minority (n = 10, m = 2): so few parties cannot win
            supporters, and the attack then uploads mu.
        omniscient: mu and sigma are those of the honest parties; if False, they are estimated from the malicious
            parties' own updates (the paper's weaker adversary).
        distances, fraction, follows_exchange, adaptive: as in
            :class:`~benchmark.threats.poisoning.omniscient.OmniscientPoison`.
    """

    def __init__(
        self,
        *,
        z: float | None = None,
        omniscient: bool = True,
        distances: Sequence[Positive] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0),
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(distances=distances, fraction=fraction, follows_exchange=follows_exchange, adaptive=adaptive)
        if adaptive and not omniscient:
            raise ConfigError("threat.adaptive needs threat.omniscient=true: a rehearsal takes the others' updates.")
        self.z, self.omniscient = z, omniscient
        if not omniscient:
            self.knowledge = self.knowledge - {"updates"}

    def known_updates(self, surface: ContributionSurface) -> Tensor:
        return super().known_updates(surface) if self.omniscient else surface.own

    def direction(self, honest: Tensor) -> Tensor:
        return -honest.std(dim=0, unbiased=len(honest) > 1)

    def strength(self, honest: Tensor, direction: Tensor, surface: ContributionSurface) -> float:
        return alie_z(surface.parties, round(self.fraction * surface.parties)) if self.z is None else self.z


def alie_z(parties: int, malicious: int) -> float:
    """Return the paper's z for n parties, m of them malicious; 0 where the formula is negative or infinite."""
    honest = parties - malicious
    supporters = max(parties // 2 + 1 - malicious, 0)
    share = (honest - supporters) / honest
    return max(0.0, NormalDist().inv_cdf(min(share, 1 - 1e-6)))
