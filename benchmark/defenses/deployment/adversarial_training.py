"""Adversarial training: the classifier learns from inputs altered against itself, batch by batch.

Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR 2018 (arXiv 1706.06083): the inner
maximisation is untargeted PGD on the cross-entropy from a random start. The modern baseline of robust training.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from benchmark.data.base import Split
from benchmark.parameters import Count, Positive
from benchmark.settings.deployment.defense import DeploymentDefense
from benchmark.training.adversarial import train_adversarially

VERSION = 1


class AdversarialTraining(DeploymentDefense):
    """Min-max training within an L-infinity box.

    Args:
        eps: largest change of a feature.
        steps, step_size: of the inner ascent.
    """

    needs = {"model.gradients": "yes"}

    def __init__(self, *, eps: Positive = 0.3, steps: Count = 40, step_size: Positive = 0.01) -> None:
        self.eps, self.steps, self.step_size = eps, steps, step_size

    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        return train_adversarially(fresh(), data, train, eps=self.eps, steps=self.steps, step_size=self.step_size)
