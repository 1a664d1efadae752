"""Standardisation of images by fixed numbers, as the first layer of a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError

MNIST = (0.1307,), (0.3081,)
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""Means and deviations of the channels of the training images, in [0, 1]."""


class Standardised(nn.Module):
    """Images (n, c, h, w) less the mean of each channel, over its deviation.

    Args:
        means, deviations: one a channel; a single one serves all channels, of signals (n, c, steps) too.
        channels: c.

    Raises:
        ConfigError: there are neither one nor c of them.
    """

    means: Tensor
    deviations: Tensor

    def __init__(self, means: Sequence[float], deviations: Sequence[float], channels: int) -> None:
        super().__init__()
        if len(means) not in (1, channels):
            raise ConfigError(f"this model standardises {len(means)} channels, but the images have {channels}.")
        self.register_buffer("means", torch.tensor(means)[:, None, None], persistent=False)
        self.register_buffer("deviations", torch.tensor(deviations)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.means) / self.deviations
