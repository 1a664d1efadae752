"""Pooled training: all data in one place, as if trained inside multi-party computation."""

from __future__ import annotations

from typing import Literal

import torch

from benchmark import clock
from benchmark.crypto.secure_costs import pooled_costs
from benchmark.data.base import Split
from benchmark.parameters import Count, CountOrZero, Positive
from benchmark.settings.collaboration.defense import FederatedDefense, TrainingTask
from benchmark.settings.collaboration.local_training import TrainingPlan, train_each
from benchmark.settings.collaboration.rounds import Federation
from benchmark.training.functional import Net

VERSION = 1


class Pooled(FederatedDefense):
    """Baseline that trains one model on the samples of all parties together.

    It equals training inside multi-party computation (*privacy-preserving machine learning*) up to fixed-point error,
    and is therefore the baseline of SafeNet: it hides the data and does nothing against poisoning.

    Args:
        optimizer, lr, batch_size, epochs, body_epochs: of
            :class:`benchmark.settings.collaboration.local_training.TrainingPlan`.
        mpc: whether to measure, with a real engine, the cost of training inside multi-party computation.
    """

    def __init__(
        self,
        *,
        optimizer: Literal["sgd", "adam"] = "adam",
        lr: Positive = 0.005,
        batch_size: Count = 128,
        epochs: Count = 20,
        body_epochs: CountOrZero | None = None,
        mpc: bool = False,
    ) -> None:
        self.plan = TrainingPlan(optimizer, lr, batch_size, epochs, body_epochs)
        self.mpc = mpc

    def learn(self, task: TrainingTask) -> Federation:
        started = clock.now()
        pool = Split(torch.cat([s.x for s in task.shares]), torch.cat([s.y for s in task.shares]))
        models, steps = train_each(task, [pool], self.plan)
        work = (len(pool), min(self.plan.batch_size, len(pool)), steps)
        return Federation(models[0], models[:0], seconds=clock.now() - started, work=work)

    def secure_costs(self, net: Net, samples: int, parties: int) -> dict[str, float | str]:
        if not self.mpc:
            return {}
        plan = self.plan
        size, steps = min(plan.batch_size, samples), plan.steps(samples)
        return pooled_costs(plan.shared_part(net), batch_size=size, steps=steps, lr=plan.lr)
