"""Controls of attacks on inputs: random feature changes and a replaced image."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.parameters import Share
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.training.loop import predict

VERSION = 2


class RandomFeatures(InputThreat):
    """Negative control: changes as many features as a sparse attack may, chosen at random.

    Args:
        theta: added to each chosen feature, then clipped to [0, 1].
        gamma: share of the features that are chosen, in (0, 1].
    """

    family = "evasion"
    headline = "attack_success"
    control = "negative"

    def __init__(self, *, theta: float = 1.0, gamma: Share = 0.143) -> None:
        super().__init__()
        self.theta, self.gamma = theta, gamma

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        x = surface.x.flatten(1)
        draws = torch.rand(x.shape, generator=rng).to(x)
        # Features already at the bound come last: a sparse attack does not change them either.
        fixed = x >= 1 if self.theta > 0 else x <= 0
        chosen = (draws + fixed).argsort(dim=1)[:, : int(x.shape[1] * self.gamma)]
        altered = (x + torch.zeros_like(x).scatter_(1, chosen, self.theta)).clamp(0, 1)
        return AdversarialExamples(altered.view_as(surface.x), never(x))


class Replace(InputThreat):
    """Positive control: the attacker's own sample that the classifier assigns to the target class with most confidence.

    It is not an altered input, so its success bounds that of an unlimited change.
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


def never(x: Float[Tensor, "n ..."]) -> Bool[Tensor, " n"]:
    """Return False for each input: no attack stalled."""
    return torch.zeros(len(x), dtype=torch.bool, device=x.device)
