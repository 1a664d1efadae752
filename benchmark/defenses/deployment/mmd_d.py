"""Maximum mean discrepancy with a learned deep kernel."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmark.parameters import Count, Positive
from benchmark.seeds import child
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext

VERSION = 1

WIDTH = 32
VARIANCE_FLOOR = 1e-8
DEVIATION_FLOOR = 1e-3


class MMDD(DeploymentDefense):
    """Shift detector by the MMD of batch and validation inputs under a deep kernel learned on half of them.

    Liu et al., *Learning Deep Kernels for Non-Parametric Two-Sample Tests*, ICML 2020: ``k(x, y) = [(1 - e) a(phi(x),
    phi(y)) + e] q(x, y)`` with Gaussian ``a`` and ``q``; the features ``phi``, both bandwidths and ``e`` maximise
    ``MMD_u^2 / sqrt(variance under H1)`` on one half of the batch and as many validation inputs. The statistic is the
    MMD of the other halves, in units of its standard deviation over permutations.

    Deviations: ``phi`` is a small network on standardised inputs for images too, since a batch of ten images cannot
    train a convolution; the setting calibrates the statistic on usual batches.

    Args:
        steps, lr: of Adam on the kernel.
        permutations: of the held-out halves.
    """

    def __init__(self, *, steps: Count = 100, lr: Positive = 0.005, permutations: Count = 50) -> None:
        self.steps, self.lr, self.permutations = steps, lr, permutations

    def facts(self) -> dict[str, Any]:
        return {"detector": "mmd_d"}

    def screen_batches(self, batches: Tensor, context: DetectorContext) -> Tensor:
        flat = context.train.x.flatten(1)
        mean, deviation = flat.mean(dim=0), flat.std(dim=0).clamp_min(DEVIATION_FLOOR)

        def standard(x: Tensor) -> Tensor:
            return ((x.flatten(1) - mean) / deviation).double()

        usual = standard(context.validation.x)
        return torch.tensor([self._statistic(standard(x), usual, context.rng(i)) for i, x in enumerate(batches)])

    def _statistic(self, x: Tensor, usual: Tensor, rng: torch.Generator) -> float:
        half = len(x) // 2
        x = x[torch.randperm(len(x), generator=rng).to(x.device)]
        usual = usual[torch.randperm(len(usual), generator=rng)[: len(x)].to(x.device)]
        with torch.random.fork_rng():
            torch.manual_seed(child(rng))
            kernel = DeepKernel(x.shape[1]).to(x)
        optimizer = torch.optim.Adam(kernel.parameters(), lr=self.lr)
        for _ in range(self.steps):
            discrepancy, variance = mmd(kernel(torch.cat([usual[:half], x[:half]])), half)
            optimizer.zero_grad(set_to_none=True)
            (-discrepancy / (variance + VARIANCE_FLOOR).sqrt()).backward()
            optimizer.step()
        with torch.no_grad():
            gram = kernel(torch.cat([usual[half:], x[half:]]))
        size = len(x) - half
        observed = mmd(gram, size)[0]
        orders = [torch.randperm(len(gram), generator=rng).to(gram.device) for _ in range(self.permutations)]
        null = torch.stack([mmd(gram[order][:, order], size)[0] for order in orders])
        return ((observed - null.mean()) / null.std().clamp_min(VARIANCE_FLOOR)).item()


class DeepKernel(nn.Module):
    """Gram matrix (m, m) of standardised samples (m, d) under a learned kernel."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(inputs, WIDTH), nn.Softplus(), nn.Linear(WIDTH, WIDTH))
        self.log_feature_width = nn.Parameter(torch.tensor(0.0))
        self.log_input_width = nn.Parameter(torch.tensor(float(inputs)).log() / 2)
        self.mixing = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x: Tensor) -> Tensor:
        features, share = gaussian(self.phi(x), self.log_feature_width), self.mixing.sigmoid()
        return ((1 - share) * features + share) * gaussian(x, self.log_input_width)


def gaussian(z: Float[Tensor, "m d"], log_width: Tensor) -> Float[Tensor, "m m"]:
    """Return ``exp(-|z_i - z_j|^2 / (2 w^2))``, (m, m)."""
    squared = (z.unsqueeze(0) - z.unsqueeze(1)).square().sum(dim=2)
    return (-squared / (2 * (2 * log_width).exp())).exp()


def mmd(gram: Float[Tensor, "m m"], size: int) -> tuple[Tensor, Tensor]:
    """Return the unbiased ``MMD_u^2`` of the first ``size`` samples against the rest and its variance under H1."""
    xx, yy, xy = gram[:size, :size], gram[size:, size:], gram[:size, size:]
    h = xx + yy - xy - xy.T
    h = h - h.diagonal().diag()
    discrepancy = h.sum() / (size * (size - 1))
    rows = h.sum(dim=1)
    variance = 4 * rows.square().sum() / size**3 - 4 * h.sum().square() / size**4
    return discrepancy, variance.clamp_min(0)
