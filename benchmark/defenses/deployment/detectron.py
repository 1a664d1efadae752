"""Detectron: train copies of the classifier to disagree with it on a batch; success indicates a shift."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.parameters import Count, NonNegative, Positive
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.training.disagreement import Tuning, train_disagreeing
from benchmark.training.loop import predict

VERSION = 2


class Detectron(DeploymentDefense):
    """Shift detector by constrained disagreement classifiers.

    Ginsberg, Liang, Krishnan, *A Learning Based Hypothesis Test for Harmful Covariate Shift*, ICLR 2023. Up to
    ``ensemble`` constrained disagreement classifiers are trained one after the other, each on the inputs of the batch
    on which all before it still agree. The disagreement test uses the share of the batch on which any of them
    disagrees; the entropy test compares the entropies of the ensemble's mean prediction with those of usual batches.

    Deviations: p-values are computed over the usual batches of the setting, and false alarms are counted on further
    ones, whereas the paper's code uses the same batches for both.

    Args:
        test: ``disagreement`` or ``entropy``.
        ensemble: maximum number of classifiers.
        patience: training stops after this many classifiers in a row without a new disagreement.
        epochs, lr, batch_size, tolerance: see :class:`benchmark.training.disagreement.Tuning`.
    """

    def __init__(
        self,
        *,
        test: Literal["disagreement", "entropy"] = "disagreement",
        ensemble: Count = 5,
        patience: Count = 2,
        epochs: Count = 5,
        lr: Positive = 0.001,
        batch_size: Count = 512,
        tolerance: NonNegative | None = 0.05,
    ) -> None:
        self.test, self.ensemble, self.patience = test, ensemble, patience
        self.tuning = Tuning(epochs=epochs, lr=lr, batch_size=batch_size, tolerance=tolerance)

    def facts(self) -> dict[str, Any]:
        return {"detector": "detectron", "test": self.test}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        def run() -> dict[str, Tensor]:
            measured = [self.statistics(batch, context, context.rng(index)) for index, batch in enumerate(batches)]
            rates, entropies = zip(*measured, strict=True)
            return {"disagreement": torch.stack(rates).cpu(), "entropy": torch.stack(entropies).cpu()}

        # Both tests read the same ensembles, so the second one finds them trained.
        name = f"detectron.{self.ensemble}.{self.patience}.{self.tuning}"
        return context.remember(name, run)[self.test]

    def statistics(self, x: Tensor, context: DetectorContext, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a batch's (n, ...) disagreement rate, (), and the entropies in nats of its mean predictions, (n,)."""
        logits = predict(context.model, x)
        predicted, probabilities = logits.argmax(dim=1), logits.softmax(dim=1)
        agreed = torch.ones(len(x), dtype=torch.bool, device=x.device)
        members, without_progress = 1, 0
        for member in range(1, self.ensemble + 1):
            disagreer = train_disagreeing(
                context.model, context.train, context.validation, x[agreed], self.tuning, rng, member
            )
            answers = predict(disagreer, x)
            probabilities, members = probabilities + answers.softmax(dim=1), members + 1
            disagrees = agreed & (answers.argmax(dim=1) != predicted)
            agreed = agreed & ~disagrees
            without_progress = 0 if disagrees.any() else without_progress + 1
            if not agreed.any() or without_progress >= self.patience:
                break
        mean = (probabilities / members).clamp_min(torch.finfo(probabilities.dtype).tiny)
        return 1 - agreed.double().mean(), -(mean * mean.log()).sum(dim=1)
