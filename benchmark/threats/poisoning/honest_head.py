"""An attack on reputations that judge an update by its last layer and its length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor
from benchmark.training.functional import Layout

VERSION = 1


class HonestHead(ContributionThreat):
    """Hands out the honest mean in the last layer, and its opposite everywhere else, at the honest median length.

    Our attack on fragmented FL (Jebreel et al. 2024), whose score is 0.2 of norm and 0.8 of last-layer direction: it
    earns the best score there is while the other layers climb. It always knows the defense. With ``first_round`` it
    is a sleeper: honest until then, which is when it has a reputation that never decays.

    Args:
        first_round: the attack begins here.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)
    knowledge = frozenset({"updates"})

    def __init__(self, *, first_round: int, fraction: float, follows_exchange: bool) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange, adaptive=True)
        self.first_round = first_round

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        if surface.round < self.first_round:
            return Contribution(surface.own)
        crowd = surface.honest if len(surface.honest) else surface.own
        update = honest_head(crowd.mean(dim=0), crowd.norm(dim=1).median(), surface.layout)
        return Contribution(update.expand_as(surface.own))


def honest_head(mean: Tensor, length: Tensor, layout: Layout) -> Tensor:
    """(d,): ``mean`` in the last layer's weight and bias, its opposite elsewhere, so long that all has ``length``."""
    head = torch.zeros(len(mean), dtype=torch.bool, device=mean.device)
    for part in list(layout.slices().values())[-2:]:
        head[part] = True
    room = (length.square() - mean[head].square().sum()).clamp_min(0).sqrt()
    body = torch.where(head, 0, mean)
    return torch.where(head, mean, -room * F.normalize(body, dim=0))
