"""Independently trained classifiers that disagree, or are uncertain, about a batch: Detectron without its training."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.training.loop import predict

VERSION = 1


class DeepEnsemble(DeploymentDefense):
    """Shift detector by deep ensembles (Lakshminarayanan et al., 2017): an ablation of Detectron.

    Args:
        test: ``disagreement``, the share of inputs on which any member differs from the deployed classifier; or
            ``entropy`` of the mean prediction, compared with that of usual batches.
        members: classifiers besides the deployed one, each with its own initialisation and order of samples.
    """

    def __init__(self, *, test: Literal["disagreement", "entropy"] = "disagreement", members: Count = 9) -> None:
        self.test, self.members = test, members

    def facts(self) -> dict[str, Any]:
        return {"detector": "deep_ensemble", "test": self.test}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        models = [context.model, *(context.member(index) for index in range(1, self.members + 1))]
        x = batches.flatten(0, 1)
        logits = torch.stack([predict(model, x) for model in models])  # (members + 1, q * n, classes)
        if self.test == "disagreement":
            labels = logits.argmax(dim=2)
            return (labels != labels[0]).any(dim=0).double().view(batches.shape[:2]).mean(dim=1)
        mean = torch.distributions.Categorical(probs=logits.softmax(dim=2).mean(dim=0))
        return mean.entropy().view(batches.shape[:2])
