"""Copies of private samples in a release (C1 of the shared attack set): an auditor's alarm, never an acquittal."""

from __future__ import annotations

import torch

from benchmark.metrics.distances import nearest
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.copies import Copies, CopySurface
from benchmark.settings.threat import Floor

VERSION = 1
QUANTILE = 0.01


class Copying(ReleaseThreat):
    """Distances of released rows to private samples; near is what only 1 % of other people are from a private one."""

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
