"""Defensive distillation: a student learns a teacher's softened outputs at a high temperature and is deployed at 1.

Papernot, McDaniel, Wu, Jha, Swami, *Distillation as a Defense to Adversarial Perturbations against Deep Neural
Networks*, IEEE S&P 2016 (arXiv 1511.04508). Broken by Carlini, Wagner, 2016 (arXiv 1607.04311): the student's logits
are about T times larger, so its softmax saturates and only hides the gradient. Deviations: a warm-up at
temperature 1 initialises teacher and student, as in Carlini and Wagner's reproduction; Adam in place of SGD.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.parameters import CountOrZero, Positive
from benchmark.settings.deployment.defense import DeploymentDefense
from benchmark.training.loop import predict

VERSION = 2


class DefensiveDistillation(DeploymentDefense):
    """Teacher and student of one architecture, trained one after the other on the same samples at ``temperature``.

    Args:
        temperature: T of ``softmax(z / T)`` in both trainings and in the teacher's soft labels.
        warmup_epochs: at temperature 1 before both.
        student: False deploys the teacher, an ablation that isolates the effect of the temperature.
    """

    needs = {"model.gradients": "yes"}

    def __init__(self, *, temperature: Positive = 100.0, warmup_epochs: CountOrZero = 1, student: bool = True) -> None:
        self.temperature, self.warmup_epochs, self.student = temperature, warmup_epochs, student

    def facts(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        start = train(fresh(), data.x, data.y, epochs=self.warmup_epochs)
        teacher = train(copy.deepcopy(start), data.x, data.y, loss=self.loss)
        if not self.student:
            return teacher
        # `train` leaves the teacher in evaluation mode: dropout would perturb the labels.
        soft = (predict(teacher, data.x) / self.temperature).softmax(dim=1)
        return train(copy.deepcopy(start), data.x, soft, loss=self.loss)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of ``softmax(logits / T)`` with labels (n,) or soft labels (n, classes)."""
        return F.cross_entropy(logits / self.temperature, y)
