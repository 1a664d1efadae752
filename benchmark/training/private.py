"""Differentially private training in one place: DP-SGD (Abadi et al., CCS 2016) with Adam's step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.seeds import normal_like
from benchmark.training.accounting import sampled_gaussian_epsilon
from benchmark.training.functional import Net
from benchmark.training.per_sample import clipped_sum


def train_privately(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int,
    max_norm: float,
    noise_multiplier: float,
    delta: float,
    lr: float,
    rng: torch.Generator,
) -> float:
    """Fit ``module`` in place and return the epsilon that was spent.

    Each step draws a batch without replacement, clips every sample's gradient to ``max_norm`` and adds noise of
    ``noise_multiplier * max_norm`` to the sum; Adam's step is post-processing. Other arguments as for ``train``.
    """
    net, batch_size = Net(module), min(batch_size, len(x))
    steps = epochs * max(1, len(x) // batch_size)
    parameters = list(module.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        rows = torch.randperm(len(x), generator=rng)[:batch_size].to(x.device)
        total = clipped_sum(net, net.initial(), x[rows], y[rows], max_norm)
        noisy = (total + noise_multiplier * max_norm * normal_like(total, rng)) / batch_size
        for parameter, part in zip(parameters, net.layout.split(noisy).values(), strict=True):
            parameter.grad = part
        optimizer.step()
    module.eval()
    return sampled_gaussian_epsilon(
        noise_multiplier=noise_multiplier, samples=len(x), batch_size=batch_size, steps=steps, delta=delta
    )
