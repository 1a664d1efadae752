"""Classifier two-sample test: train a classifier to tell a batch from validation data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.training.loop import predict

VERSION = 1


class CTST(DeploymentDefense):
    """Shift detector by the accuracy of a classifier of batch against validation inputs.

    Lopez-Paz, Oquab, *Revisiting Classifier Two-Sample Tests*, ICLR 2017. A model of the deployed architecture learns
    to tell half of the batch from as many validation inputs; the statistic is its accuracy on the other halves.
    Deviation: the setting calibrates it on usual batches instead of by a permutation test, which costs one training
    instead of a hundred.
    """

    def facts(self) -> dict[str, Any]:
        return {"detector": "ctst"}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        return torch.tensor([self._accuracy(x, context, context.rng(i)) for i, x in enumerate(batches)])

    @staticmethod
    def _accuracy(x: Tensor, context: DetectorContext, rng: torch.Generator) -> float:
        usual = context.validation.x
        usual = usual[torch.randperm(len(usual), generator=rng)[: len(x)].to(x.device)]
        x = x[torch.randperm(len(x), generator=rng).to(x.device)]
        half = len(x) // 2
        domain = torch.cat([torch.zeros(half), torch.ones(half)]).long().to(x.device)
        classifier = context.learn(context.fresh(2), torch.cat([usual[:half], x[:half]]), domain, rng)
        correct = torch.cat(
            [predict(classifier, usual[half:]).argmax(dim=1) == 0, predict(classifier, x[half:]).argmax(dim=1) == 1]
        )
        return correct.double().mean().item()
