"""More samples and more local steps behind every upload."""

from __future__ import annotations

from dataclasses import replace

from benchmark.errors import positive
from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan

VERSION = 1


class BatchAggregation(FederatedDefense):
    """Raises the plan to at least ``batch_size`` samples a step and ``local_steps`` steps an upload."""

    def __init__(self, *, batch_size: int, local_steps: int) -> None:
        positive("batch_aggregation.batch_size", batch_size)
        positive("batch_aggregation.local_steps", local_steps)
        self.batch_size, self.local_steps = batch_size, local_steps

    def local_plan(self, plan: LocalPlan) -> LocalPlan:
        return replace(
            plan,
            batch_size=max(plan.batch_size, self.batch_size),
            local_steps=max(plan.local_steps, self.local_steps),
        )
