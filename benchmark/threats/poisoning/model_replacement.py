"""Model replacement: a backdoored update scaled up so that it survives the averaging."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmark.parameters import BelowOne, Count, CountOrZero, Fraction, Index, Positive
from benchmark.settings.collaboration.games.contributions import Contribution, ContributionSurface
from benchmark.threats.poisoning.badnets import BadNets

VERSION = 1


class ModelReplacement(BadNets):
    """Attack that scales the update of a backdoored model by gamma, so that the mean becomes (nearly) that model.

    Bagdasaryan, Veit, Hua, Estrin, Shmatikov, *How To Backdoor Federated Learning*, AISTATS 2020, equation 3: gamma = n
    / m replaces the global model when the honest updates cancel. The adaptive form runs the defense on the others'
    updates and takes the gamma at which the aggregate, projected on one backdoored update, comes nearest to its length.

    Args:
        gamma: None for n / m.
        first_round: round in which the attack begins; earlier the malicious parties upload their unscaled update.
        gammas: tried by the adaptive form.
        target, size, share: as for :class:`BadNets`.
    """

    surface = "contributions"

    def __init__(
        self,
        *,
        gamma: Positive | None = None,
        first_round: CountOrZero = 0,
        gammas: Sequence[Positive] = (0.25, 0.5, 1.0, 1.5),
        target: Index = 7,
        size: Count = 4,
        share: Fraction = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(
            target=target,
            size=size,
            share=share,
            fraction=fraction,
            follows_exchange=follows_exchange,
            adaptive=adaptive,
        )
        self.gamma, self.first_round, self.gammas = gamma, first_round, tuple(gammas)
        if adaptive:
            self.knowledge = self.knowledge | {"updates"}

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        if surface.round < self.first_round:
            return Contribution(surface.own)
        gamma = self._strongest(surface) if self.adaptive else self._plain()
        return Contribution(gamma * surface.own, diagnostics={"gamma": gamma})

    def _plain(self) -> float:
        return 1 / self.fraction if self.gamma is None else self.gamma

    def _strongest(self, surface: ContributionSurface) -> float:
        own = surface.own.mean(dim=0)

        def miss(gamma: float) -> float:
            step = surface.server(gamma * surface.own, surface.honest)
            return abs(float(step @ own / (own @ own).clamp_min(1e-20)) - 1)

        return min((self._plain(), *self.gammas), key=miss)
