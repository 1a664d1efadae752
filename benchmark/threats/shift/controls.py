"""Controls of shifts: no shift at all, and inputs that belong to no task."""

from __future__ import annotations

import torch

from benchmark.settings.deployment.games.batches import BatchSurface, ShiftedInputs, ShiftThreat

VERSION = 2


class NoShift(ShiftThreat):
    """Negative control: more batches of the classifier's own population; any alarm is a false one."""

    control = "negative"

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        return ShiftedInputs(surface.x, torch.arange(len(surface.x), device=surface.x.device))


class Shuffled(ShiftThreat):
    """Positive control of the detectors: features of an input in one fixed random order, which destroys the task.

    A detector that misses this does not detect shifts. (For the risk it is a negative control: it gives the lower
    bound.)
    """

    control = "negative"

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        flat = surface.x.flatten(1)
        order = torch.randperm(flat.shape[1], generator=rng).to(flat.device)
        return ShiftedInputs(flat[:, order].view_as(surface.x), torch.arange(len(flat), device=flat.device))
