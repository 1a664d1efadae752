"""Rows that bound every attack on inputs: changing features blindly, and showing another image altogether."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.training.loop import predict

VERSION = 1


class RandomFeatures(InputThreat):
    """Negative control: as many features as a sparse attack may change, chosen at random.

    Args:
        theta: added to each chosen feature, then clipped to [0, 1].
        gamma: share of the features that are chosen, in (0, 1].
    """

    family = "evasion"
    headline = "attack_success"
    control = "negative"

    def __init__(self, *, theta: float, gamma: float) -> None:
        super().__init__()
        self.theta, self.gamma = theta, gamma

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        x = surface.x.flatten(1)
        draws = torch.rand(x.shape, generator=rng).to(x)
        # Features already at the bound come last, as a sparse attack leaves them alone too.
        fixed = x >= 1 if self.theta > 0 else x <= 0
        chosen = (draws + fixed).argsort(dim=1)[:, : int(x.shape[1] * self.gamma)]
        altered = (x + torch.zeros_like(x).scatter_(1, chosen, self.theta)).clamp(0, 1)
        return AdversarialExamples(altered.view_as(surface.x), never(x))


class Replace(InputThreat):
    """Positive control: the attacker's own sample that the classifier takes most surely for the target class.

    It is no altered input at all, so that its success bounds what an unlimited change reaches.
    """

    family = "evasion"
    headline = "attack_success"
    control = "positive"
    knowledge = frozenset({"attacker_data"})

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        own = surface.attacker.x
        if len(own) == 0:
            raise ConfigError("This control shows the attacker's own samples: set dataset.sizes.attacker above 0.")
        logits = predict(surface.model, own)
        top = logits.topk(2, dim=1).values
        rival = torch.where(logits == top[:, :1], top[:, 1:], top[:, :1])  # the largest of the other logits
        surest = (logits - rival).argmax(dim=0)
        return AdversarialExamples(own[surest[surface.targets]], never(surface.x))


def never(x: Tensor) -> Tensor:
    """Nothing stalls: False for each input (n,)."""
    return torch.zeros(len(x), dtype=torch.bool, device=x.device)
