"""Fully connected network of fragmented federated learning, for Adult."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier

VERSION = 1

HIDDEN, DROPOUT = 64, 0.1

BAR = 0.5
"""Logit from which the authors' code calls a person rich: it takes it for a probability."""


class OneLogit(nn.Linear):
    """Linear layer of one logit, that of the second of two classes; the first has 0, or in use ``BAR``."""

    def forward(self, features: Tensor) -> Tensor:
        logit = super().forward(features)
        return torch.cat([torch.full_like(logit, 0.0 if self.training else BAR), logit], dim=1)


class JebreelMLP(Classifier):
    """Two layers of 64 units, each with a ReLU and batch normalisation after it, dropout of a tenth, and one logit.

    ``MLPAdult`` in the code of Jebreel et al., *Enhanced Security and Privacy via Fragmented Federated Learning*, IEEE
    TNNLS 2024: 5,185 parameters and 256 running statistics for ten columns.

    Raises:
        ConfigError: there are not two classes.
    """

    first_layer = "linear"

    def __init__(self, *, shape: tuple[int, ...] = (10,), num_classes: int = 2) -> None:
        if num_classes != 2:
            raise ConfigError(f"model=jebreel_mlp tells two classes apart, and here are {num_classes}; use model=mlp.")
        body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), HIDDEN),
            nn.ReLU(),
            nn.BatchNorm1d(HIDDEN),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.BatchNorm1d(HIDDEN),
            nn.Dropout(DROPOUT),
        )
        super().__init__(body, OneLogit(HIDDEN, 1))
