"""Parties that want the model without working for it."""

from __future__ import annotations

import torch

from benchmark.errors import ConfigError
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)

VERSION = 1
WAYS = ("zero", "replay")


class FreeRider(ContributionThreat):
    """Hands out nothing, or what the global model did in the last round, with noise to look busy.

    Lin, Du, Liu, *Free-riders in Federated Learning: Attacks and Defenses*, arXiv 1911.12560 (delta weights); Fraboni,
    Vidal, Lorenzi, *Free-rider Attacks on Model Aggregation in Federated Learning*, AISTATS 2021 (disguise by noise).

    It does little harm and is not meant to, so it has no floor: what counts is whether its uploads are still taken,
    ``malicious_share_of_uploads``, and what the server thinks of it, ``trust_gap``.

    Args:
        way: ``zero``, or ``replay``: the last global step, zero in the first round.
        noise: of the disguise, as a multiple of the replayed step's own spread.
    """

    family = "poisoning"

    def __init__(self, *, way: str, noise: float, fraction: float, follows_exchange: bool) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        if way not in WAYS:
            raise ConfigError(f"threat.way must be one of {', '.join(WAYS)}, got {way!r}.")
        self.way, self.noise = way, noise

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        if self.way == "zero":
            return Contribution(torch.zeros_like(surface.own))
        step = torch.zeros_like(surface.params) if surface.last is None else surface.last
        disguise = self.noise * step.std() * normal_like(surface.own, rng)
        return Contribution(step + disguise)
