"""Classifier two-sample test: a batch is shifted when a classifier can learn to tell it from training data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.training.loop import predict

VERSION = 1


class CTST(DeploymentDefense):
    """Revisiting Classifier Two-Sample Tests (Lopez-Paz, Oquab, ICLR 2017).

    A model of the deployed one's architecture learns to tell half of the batch from as many validation inputs; the
    statistic is its accuracy on the other halves. The setting calibrates it on usual batches, which takes the place of
    a permutation test and costs one training instead of a hundred.
    """

    def facts(self) -> dict[str, Any]:
        return {"detector": "ctst"}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        return torch.tensor([self._told_apart(x, context, context.rng(i)) for i, x in enumerate(batches)])

    @staticmethod
    def _told_apart(x: Tensor, context: DetectorContext, rng: torch.Generator) -> float:
        usual = context.validation.x
        usual = usual[torch.randperm(len(usual), generator=rng)[: len(x)].to(x.device)]
        x = x[torch.randperm(len(x), generator=rng).to(x.device)]
        half = len(x) // 2
        domain = torch.cat([torch.zeros(half), torch.ones(half)]).long().to(x.device)
        judge = context.learn(context.fresh(2), torch.cat([usual[:half], x[:half]]), domain, rng)
        right = torch.cat(
            [predict(judge, usual[half:]).argmax(dim=1) == 0, predict(judge, x[half:]).argmax(dim=1) == 1]
        )
        return right.double().mean().item()
