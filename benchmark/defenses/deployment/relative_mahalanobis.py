"""Relative Mahalanobis distance of a batch's features to the classes of the training data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmark.metrics.detection import ks_suspicion
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.training.loop import predict

VERSION = 1

MIN_STD = 1e-7  # features of a smaller standard deviation are left out
RIDGE = 1e-6  # of the mean variance, so that a covariance of dependent features can be inverted


class RelativeMahalanobis(DeploymentDefense):
    """Shift detector by the relative Mahalanobis distance of features.

    Ren et al., *A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection*, 2021. The score of an input is
    ``min_c M_c(z) - M_0(z)``: distance to the nearest class, with the pooled within-class covariance, minus distance to
    all training data. A Kolmogorov-Smirnov test compares the batch's scores with those of validation data. Features are
    the model's penultimate representation (trees: the inputs).

    Deviation: the pooled covariance is inverted; the notebook of the Detectron paper sums inverses class by class.
    """

    def facts(self) -> dict[str, Any]:
        return {"detector": "relative_mahalanobis"}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        z = features(context.model, context.train.x)
        keep = z.std(dim=0) > MIN_STD
        z, y = z[:, keep], context.train.y
        means = torch.stack([z[y == label].mean(dim=0) for label in y.unique()])
        within = torch.cat([z[y == label] - z[y == label].mean(dim=0) for label in y.unique()])
        pooled, total, centre = precision(within), precision(z - z.mean(dim=0)), z.mean(dim=0, keepdim=True)

        def score(x: Tensor) -> Tensor:
            own = features(context.model, x)[:, keep]
            return distances(own, means, pooled).amin(dim=1) - distances(own, centre, total).squeeze(1)

        usual = score(context.validation.x)
        return torch.tensor([ks_suspicion(score(batch), usual) for batch in batches], dtype=torch.float64)


def features(model: nn.Module, x: Tensor) -> Tensor:
    """Return the penultimate representation in double precision, (n, f)."""
    extract = cast("Callable[[Tensor], Tensor]", model.features)
    return predict(extract, x).flatten(1).double()


def precision(centred: Float[Tensor, "n f"]) -> Float[Tensor, "f f"]:
    """Return the inverse covariance (f, f) of centred samples (n, f)."""
    covariance = centred.T @ centred / len(centred)
    ridge = RIDGE * covariance.diagonal().mean()
    return torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=centred.dtype, device=centred.device))


def distances(
    z: Float[Tensor, "n f"], centres: Float[Tensor, "c f"], inverse: Float[Tensor, "f f"]
) -> Float[Tensor, "n c"]:
    """Return the squared Mahalanobis distance of each row of ``z`` to each centre, (n, centres)."""
    apart = z.unsqueeze(1) - centres.unsqueeze(0)
    return torch.einsum("ncf,fg,ncg->nc", apart, inverse, apart)
