"""Pooled training: all data in one place, as training inside multi-party computation amounts to."""

from __future__ import annotations

import time

import torch

from benchmark.crypto.secure_costs import pooled_costs
from benchmark.data.base import Split
from benchmark.settings.collaboration.defense import FederatedDefense, TrainingTask
from benchmark.settings.collaboration.local_training import TrainingPlan, train_each
from benchmark.settings.collaboration.rounds import Federation
from benchmark.training.functional import Net

VERSION = 1


class Pooled(FederatedDefense):
    """One model, trained on everybody's samples together.

    What *privacy-preserving machine learning* (training inside multi-party computation) computes, up to fixed-point
    error, and so the baseline of SafeNet: it hides the data and does nothing against poison.

    Args:
        optimizer, lr, batch_size, epochs, body_epochs: see :class:`benchmark.settings.collaboration.local_training.TrainingPlan`.
        mpc: whether to measure, with a real engine, what training inside multi-party computation would cost.
    """

    def __init__(
        self, *, optimizer: str, lr: float, batch_size: int, epochs: int, body_epochs: int | None, mpc: bool
    ) -> None:
        self.course = TrainingPlan(optimizer, lr, batch_size, epochs, body_epochs)
        self.mpc = mpc

    def learn(self, lesson: TrainingTask) -> Federation:
        started = time.perf_counter()
        pool = Split(torch.cat([s.x for s in lesson.shares]), torch.cat([s.y for s in lesson.shares]))
        models, steps = train_each(lesson, [pool], self.course)
        work = (len(pool), min(self.course.batch_size, len(pool)), steps)
        return Federation(models[0], models[:0], seconds=time.perf_counter() - started, work=work)

    def secure_costs(self, net: Net, samples: int, parties: int) -> dict[str, float | str]:
        if not self.mpc:
            return {}
        course = self.course
        size, steps = min(course.batch_size, samples), course.steps(samples)
        return pooled_costs(course.shared_part(net), batch_size=size, steps=steps, lr=course.lr)
