"""Trivial detector that counts inputs with the fingerprint of imputation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext

VERSION = 1


class FractionalValues(DeploymentDefense):
    """Shift detector by the share of inputs with a negative or fractional feature.

    A sanity check for tables of whole numbers: in UCI heart disease as published for Detectron, imputed values identify
    the shifted hospitals, so a test that beats every method there has not necessarily found a harmful shift.
    """

    def facts(self) -> dict[str, Any]:
        return {"detector": "fractional_values"}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        odd = (batches < 0) | (batches != batches.round())
        return odd.flatten(2).any(dim=2).double().mean(dim=1)
