"""Black box shift detection: test whether the classifier's outputs are distributed as usual."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.metrics.detection import ks_suspicion
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.training.loop import predict

VERSION = 1


def _entropy(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logits).entropy().unsqueeze(1)


OUTPUTS = {
    "logits": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(dim=1),
    "entropy": _entropy,
    "max_softmax": lambda logits: logits.softmax(dim=1).amax(dim=1, keepdim=True),
    "max_logit": lambda logits: logits.amax(dim=1, keepdim=True),
}


class BBSD(DeploymentDefense):
    """Shift detector by two-sample Kolmogorov-Smirnov tests on the outputs.

    Lipton, Wang, Smola, *Detecting and Correcting for Label Shift with Black Box Predictors*, ICML 2018. One test for
    each output between validation data and the batch; the smallest p-value counts (the Bonferroni factor is the same
    for every batch, so it only scales the alarm).

    Args:
        outputs: ``logits``, ``softmax``, or one number: ``entropy``, ``max_softmax`` or ``max_logit``.
    """

    def __init__(
        self, *, outputs: Literal["logits", "softmax", "entropy", "max_softmax", "max_logit"] = "logits"
    ) -> None:
        self.outputs = outputs

    def facts(self) -> dict[str, Any]:
        return {"detector": "bbsd", "outputs": self.outputs}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        read = OUTPUTS[self.outputs]
        usual = read(predict(context.model, context.validation.x))
        worst = [
            max(ks_suspicion(column, source) for column, source in zip(outputs.T, usual.T, strict=True))
            for outputs in (read(predict(context.model, batch)) for batch in batches)
        ]
        return torch.tensor(worst, dtype=torch.float64)
