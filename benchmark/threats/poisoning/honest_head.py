"""Attack on reputations that score an update by its last layer and its length."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from benchmark.parameters import BelowOne, CountOrZero
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor
from benchmark.training.functional import Layout

VERSION = 1


class HonestHead(ContributionThreat):
    """Attack that uploads the honest mean in the last layer and its opposite elsewhere, at the honest median length.

    Our attack on fragmented FL (Jebreel et al. 2024), whose score is 0.2 of norm and 0.8 of last-layer direction: it
    gets the best possible score while the other layers ascend the loss. It always knows the defense. With
    ``first_round`` above 0 it is honest until then and attacks with a reputation that never decays.

    Args:
        first_round: round in which the attack begins.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)
    knowledge = frozenset({"updates"})

    def __init__(
        self, *, first_round: CountOrZero = 0, fraction: BelowOne = 0.2, follows_exchange: bool = True
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange, adaptive=True)
        self.first_round = first_round

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        if surface.round < self.first_round:
            return Contribution(surface.own)
        known = surface.honest if len(surface.honest) else surface.own
        update = honest_head(known.mean(dim=0), known.norm(dim=1).median(), surface.layout)
        return Contribution(update.expand_as(surface.own))


def honest_head(mean: Float[Tensor, " d"], length: Float[Tensor, ""], layout: Layout) -> Float[Tensor, " d"]:
    """Return ``mean`` in the last layer's weight and bias, its opposite elsewhere scaled to total norm ``length``."""
    head = torch.zeros(len(mean), dtype=torch.bool, device=mean.device)
    for part in list(layout.slices().values())[-2:]:
        head[part] = True
    room = (length.square() - mean[head].square().sum()).clamp_min(0).sqrt()
    body = torch.where(head, 0, mean)
    return torch.where(head, mean, -room * F.normalize(body, dim=0))
