"""Larger batches and more local steps behind every upload."""

from __future__ import annotations

from dataclasses import replace

from benchmark.parameters import Count
from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan

VERSION = 1


class BatchAggregation(FederatedDefense):
    """Client defense that sets least numbers of samples a local step and of local steps an upload."""

    def __init__(self, *, batch_size: Count = 8, local_steps: Count = 2) -> None:
        self.batch_size, self.local_steps = batch_size, local_steps

    def local_plan(self, plan: LocalPlan) -> LocalPlan:
        return replace(
            plan,
            batch_size=max(plan.batch_size, self.batch_size),
            local_steps=max(plan.local_steps, self.local_steps),
        )
