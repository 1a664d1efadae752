"""H-divergence: two samples differ if their mixture is harder to model than either of them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext

VERSION = 1


class HDivergence(DeploymentDefense):
    """Shift detector by the H-divergence between the batch and validation inputs.

    Zhao et al., *Comparing Distributions by Measuring Differences that Affect Decision Making*, ICLR 2022:
    ``H((p + q) / 2) - min(H(p), H(q))``, where the entropy ``H(p)`` is the least loss of an action on held-out samples
    of p. The action here is to choose a Gaussian density (Ledoit-Wolf covariance) on the first principal components of
    the training data, its loss the negative log-likelihood in nats.

    Deviations: the paper's actions on images are autoencoders; the setting calibrates on usual batches instead of
    permuting.

    Args:
        components: number of principal components.
    """

    def __init__(self, *, components: Count = 10) -> None:
        self.components = components

    def facts(self) -> dict[str, Any]:
        return {"detector": "h_divergence"}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        from sklearn.decomposition import PCA
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        flat = context.train.x.flatten(1).cpu().double().numpy()
        project = make_pipeline(
            StandardScaler(), PCA(min(self.components, flat.shape[1]), svd_solver="full", whiten=True)
        ).fit(flat)

        def projected(x: Tensor) -> Tensor:
            return torch.from_numpy(project.transform(x.flatten(1).cpu().double().numpy()))

        usual = projected(context.validation.x)
        return torch.tensor([divergence(projected(x), usual, context.rng(i)) for i, x in enumerate(batches)])


def divergence(x: Float[Tensor, "n d"], usual: Float[Tensor, "m d"], rng: torch.Generator) -> float:
    """Return H-Min of a batch (n, d) and as many of ``usual`` (m, d)."""
    usual = usual[torch.randperm(len(usual), generator=rng)[: len(x)]]
    x = x[torch.randperm(len(x), generator=rng)]
    half = len(x) // 2
    mixture = torch.cat([usual[: half // 2], x[: half - half // 2], usual[half:], x[half:]])
    return entropy(mixture, half) - min(entropy(usual, half), entropy(x, half))


def entropy(samples: Tensor, fitted: int) -> float:
    """Return the mean negative log-likelihood, in nats, of samples after the ``fitted`` first under their Gaussian."""
    from sklearn.covariance import LedoitWolf

    return -float(LedoitWolf().fit(samples[:fitted].numpy()).score(samples[fitted:].numpy()))
