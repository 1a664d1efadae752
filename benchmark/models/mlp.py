"""Multi-layer perceptron for images and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from benchmark.models import base
from benchmark.models.base import Classifier
from benchmark.parameters import Count

VERSION = 1


class MLP(Classifier):
    """Fully connected layers.

    Args:
        shape: of one sample, any number of dimensions.
        num_classes: number of logits.
        hidden: width of each hidden layer.
        activation: after each hidden layer.
    """

    first_layer = "linear"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (1, 28, 28),
        num_classes: int = 10,
        hidden: Sequence[Count] = (128,),
        activation: str = "relu",
    ) -> None:
        widths = [math.prod(shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), base.activation(activation)]
        super().__init__(nn.Sequential(*layers), nn.Linear(widths[-1], num_classes))
