"""Direct view of a release: each released row as it is."""

from __future__ import annotations

import torch

from benchmark.errors import Refused
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor

VERSION = 1


class Look(ReleaseThreat):
    """Attack that takes each released row, clipped to [0, 1], for the private sample behind it."""

    family = "reconstruction"
    headline = "retrieval_top1"
    needs = {"defense.synthetic": "no"}
    floor = Floor("retrieval_top1", 0.95)

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        if surface.targets.shape[1:] != surface.shape:
            raise Refused("Released rows have another shape than private samples, so there is nothing to compare.")
        return Reconstruction(surface.targets.clamp(0, 1).unsqueeze(1))
