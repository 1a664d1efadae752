"""Detectron: a batch is shifted when copies of the classifier can learn to disagree with it there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.errors import ConfigError, positive
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.training.disagreement import Tuning, disagreeing
from benchmark.training.loop import predict

VERSION = 2

TESTS = ("disagreement", "entropy")


class Detectron(DeploymentDefense):
    """A Learning Based Hypothesis Test for Harmful Covariate Shift (Ginsberg, Liang, Krishnan, ICLR 2023).

    Up to ``ensemble`` constrained disagreement classifiers are trained one after the other, each on the inputs of the
    batch that all before it still agreed on. The disagreement test asks what share of the batch any of them disagrees
    on; the entropy test compares the entropies of the ensemble's mean prediction with those of usual batches.

    Deviations: p-values are compared over the usual batches of the setting, and false alarms are counted on further
    ones, where the paper's code uses the same batches for both.

    Args:
        test: ``disagreement`` or ``entropy``.
        ensemble: most classifiers; patience: training stops when this many in a row won no input over.
        epochs, lr, batch_size, tolerance: see :class:`benchmark.training.disagreement.Tuning`.
    """

    def __init__(
        self,
        *,
        test: str,
        ensemble: int,
        patience: int,
        epochs: int,
        lr: float,
        batch_size: int,
        tolerance: float | None,
    ) -> None:
        if test not in TESTS:
            raise ConfigError(f"defense.detectron.test must be one of {list(TESTS)}, got {test!r}.")
        positive("defense.detectron.ensemble", ensemble)
        positive("defense.detectron.patience", patience)
        self.test, self.ensemble, self.patience = test, ensemble, patience
        self.tuning = Tuning(epochs=epochs, lr=lr, batch_size=batch_size, tolerance=tolerance)

    def facts(self) -> dict[str, Any]:
        return {"detector": "detectron", "test": self.test}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        def run() -> dict[str, Tensor]:
            judged = [self.judge(batch, context, context.rng(index)) for index, batch in enumerate(batches)]
            rates, entropies = zip(*judged, strict=True)
            return {"disagreement": torch.stack(rates).cpu(), "entropy": torch.stack(entropies).cpu()}

        # Both tests read the same ensembles, so that whichever comes second finds them trained.
        name = f"detectron.{self.ensemble}.{self.patience}.{self.tuning}"
        return context.remember(name, run)[self.test]

    def judge(self, x: Tensor, context: DetectorContext, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The disagreement rate, (), and the entropy in nats of each mean prediction, (n,), of one batch (n, ...)."""
        logits = predict(context.model, x)
        predicted, probabilities = logits.argmax(dim=1), logits.softmax(dim=1)
        agreed = torch.ones(len(x), dtype=torch.bool, device=x.device)
        members, stuck = 1, 0
        for member in range(1, self.ensemble + 1):
            twin = disagreeing(context.model, context.train, context.validation, x[agreed], self.tuning, rng, member)
            answers = predict(twin, x)
            probabilities, members = probabilities + answers.softmax(dim=1), members + 1
            won = agreed & (answers.argmax(dim=1) != predicted)
            agreed = agreed & ~won
            stuck = 0 if won.any() else stuck + 1
            if not agreed.any() or stuck >= self.patience:
                break
        mean = (probabilities / members).clamp_min(torch.finfo(probabilities.dtype).tiny)
        return 1 - agreed.double().mean(), -(mean * mean.log()).sum(dim=1)
