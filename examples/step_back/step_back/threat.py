"""Malicious parties that undo what the collaboration has just learned, a threat from outside the suite."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from benchmark.parameters import BelowOne, Positive
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class StepBack(ContributionThreat):
    """Attack that uploads the reverse of the global model's last step, u = -scale |own| last / |last|.

    It needs no one else's update: every party sees the step in the models that it is sent. In the first round there is
    none, and the malicious parties behave.

    Args:
        scale: length of the upload over that of the party's own update; at 1 no rule that bounds norms notices it.
        fraction: share of the parties that are malicious.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, scale: Positive = 5.0, fraction: BelowOne = 0.4) -> None:
        super().__init__(fraction=fraction)
        self.scale = scale

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        """Return the updates that the malicious parties hand out, (m, d) as ``surface.own``."""
        if surface.last is None:
            return Contribution(surface.own)
        length = surface.own.norm(dim=1, keepdim=True)
        return Contribution(-self.scale * length * normalize(surface.last, dim=0))
