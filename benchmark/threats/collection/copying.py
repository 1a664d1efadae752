"""Copies of private samples in a release: an auditor's check that can prove copying but never its absence."""

from __future__ import annotations

import torch

from benchmark.metrics.distances import nearest
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.copies import Copies, CopySurface
from benchmark.settings.threat import Floor

VERSION = 1
QUANTILE = 0.01


class Copying(ReleaseThreat):
    """Distances of released rows to private samples.

    A row is near if it is as near to a private sample as only 1 % of other people's samples are.
    """

    family = "membership_inference"
    surface = "copies"
    headline = "copied_share"
    floor = Floor("copied_share", 0.95)
    knowledge = frozenset({"truth"})

    def attack(self, surface: CopySurface, rng: torch.Generator) -> Copies:
        equal = surface.private[torch.randperm(len(surface.private), generator=rng)[: len(surface.holdout)]]
        radius = nearest(surface.holdout, surface.private)[0].quantile(QUANTILE)
        return Copies(
            to_private=nearest(surface.x, surface.private)[0],
            to_equal_share=nearest(surface.x, equal)[0],
            to_holdout=nearest(surface.x, surface.holdout)[0],
            radius=float(radius),
        )
