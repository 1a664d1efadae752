"""LeNet as attacked in gradient-leakage papers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from benchmark.models import base
from benchmark.models.base import Classifier, image_shape
from benchmark.parameters import Count

VERSION = 1

CHANNELS, KERNEL = 12, 5


class LeNet(Classifier):
    """Three 5x5 convolutions of 12 channels and a linear layer (Zhu, Liu, Han, NeurIPS 2019, section 5 and their code).

    The paper's version has strides (2, 2, 1), sigmoids and every parameter from U(-0.5, 0.5): it leaks well but hardly
    trains. Matching attacks by second-order optimisers need smooth activations.

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        activation: after each convolution.
        init: ``default`` (PyTorch's) or ``uniform``, U(-0.5, 0.5).
        strides: of the three convolutions; None is the paper's (2, 2, 1), or (1, 2, 1) for images with a side below 16,
            which the paper's strides would shrink too much.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (3, 32, 32),
        num_classes: int = 10,
        activation: str = "tanh",
        init: str = "default",
        strides: Sequence[Count] | None = None,
    ) -> None:
        channels, height, width = image_shape("lenet", shape)
        if strides is None:
            strides = (2, 2, 1) if min(height, width) >= 16 else (1, 2, 1)
        layers: list[nn.Module] = []
        for stride in strides:
            layers += [
                nn.Conv2d(channels, CHANNELS, KERNEL, stride=stride, padding=KERNEL // 2),
                base.activation(activation),
            ]
            channels, height, width = CHANNELS, math.ceil(height / stride), math.ceil(width / stride)
        super().__init__(nn.Sequential(*layers, nn.Flatten()), nn.Linear(channels * height * width, num_classes))
        base.initialise(self, init)
