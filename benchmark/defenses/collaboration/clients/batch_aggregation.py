"""Larger batches and more local steps behind every upload."""

from __future__ import annotations

from dataclasses import replace

from benchmark.errors import positive
from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan

VERSION = 1


class BatchAggregation(FederatedDefense):
    """Client defense that sets least numbers of samples a local step and of local steps an upload."""

    def __init__(self, *, batch_size: int = 8, local_steps: int = 2) -> None:
        positive("batch_aggregation.batch_size", batch_size)
        positive("batch_aggregation.local_steps", local_steps)
        self.batch_size, self.local_steps = batch_size, local_steps

    def local_plan(self, plan: LocalPlan) -> LocalPlan:
        return replace(
            plan,
            batch_size=max(plan.batch_size, self.batch_size),
            local_steps=max(plan.local_steps, self.local_steps),
        )
