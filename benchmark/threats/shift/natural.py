"""Natural shift: the other population that the data set provides (another hospital, another writer)."""

from __future__ import annotations

import torch

from benchmark.parameters import Fraction
from benchmark.settings.deployment.games.batches import BatchSurface, ShiftedInputs, ShiftThreat
from benchmark.settings.threat import Floor

VERSION = 2


class Natural(ShiftThreat):
    """Batches from the data set's shifted population.

    Args:
        share: of a batch that is shifted; the rest are usual inputs.
        whole_numbers: clip features at 0 and round them, which removes the traces of imputation.
        balanced: as many of each class as of the rarest, so that only inputs shift and not the share of the classes.
    """

    population = "shifted"
    needs = {"dataset.shift": "natural"}
    floor = Floor("accuracy_drop", 0.05)

    def __init__(self, *, share: Fraction = 1.0, whole_numbers: bool = False, balanced: bool = False) -> None:
        super().__init__(share=share)
        self.whole_numbers, self.balanced = whole_numbers, balanced

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        origin = torch.randperm(len(surface.x), generator=rng).to(surface.y.device)
        if self.balanced:
            labels = surface.y[origin]
            fewest = int(labels.unique(return_counts=True)[1].min())
            origin = torch.cat([origin[labels == label][:fewest] for label in labels.unique()])
        x = surface.x[origin]
        return ShiftedInputs(x.clamp_min(0).round() if self.whole_numbers else x, origin)
