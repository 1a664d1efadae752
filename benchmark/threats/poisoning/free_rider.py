"""Free riders: parties that want the model without training."""

from __future__ import annotations

from typing import Literal

import torch

from benchmark.parameters import BelowOne, NonNegative
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)

VERSION = 1


class FreeRider(ContributionThreat):
    """Attack that uploads zero, or the last step of the global model disguised by noise.

    Lin, Du, Liu, *Free-riders in Federated Learning: Attacks and Defenses*, arXiv 1911.12560 (delta weights); Fraboni,
    Vidal, Lorenzi, *Free-rider Attacks on Model Aggregation in Federated Learning*, AISTATS 2021 (disguise by noise).

    It is not meant to do harm, so it has no floor. The measures are whether its uploads are accepted,
    ``malicious_share_of_uploads``, and how much the server trusts it, ``trust_gap``.

    Args:
        way: ``zero``, or ``replay``: the last global step, zero in the first round.
        noise: standard deviation of the disguise, as a multiple of that of the replayed step.
    """

    family = "poisoning"

    def __init__(
        self,
        *,
        way: Literal["zero", "replay"] = "replay",
        noise: NonNegative = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        self.way, self.noise = way, noise

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        if self.way == "zero":
            return Contribution(torch.zeros_like(surface.own))
        step = torch.zeros_like(surface.params) if surface.last is None else surface.last
        disguise = self.noise * step.std() * normal_like(surface.own, rng)
        return Contribution(step + disguise)
