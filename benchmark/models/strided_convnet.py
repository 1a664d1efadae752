"""Strided convolutions followed by fully connected layers: the two kinds of layers that layer-wise measures compare."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from benchmark.models import base
from benchmark.models.base import Classifier, image_shape
from benchmark.parameters import Count

VERSION = 1


class StridedConvNet(Classifier):
    """Convolutions that halve the image by their stride, a hidden linear layer and the head.

    Without pooling, so that gradients can be matched through it. Its layers are conv1, conv2, ..., fc1, fc2.

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        channels: of each convolution; the first keeps the size of images with a side below 16.
        hidden: width of the hidden linear layer, whose output are the features.
        activation: after every layer but the head.
        init: ``default`` (PyTorch's) or ``uniform``, U(-0.5, 0.5) as in the code of DLG.
        kernel: odd side of the filters.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (3, 32, 32),
        num_classes: int = 10,
        channels: Sequence[Count] = (8, 16),
        hidden: Count = 32,
        activation: str = "relu",
        init: str = "default",
        kernel: Count = 3,
    ) -> None:
        inputs, height, width = image_shape("strided_convnet", shape)
        small = min(height, width) < 16
        layers: list[nn.Module] = []
        for number, outputs in enumerate(channels):
            stride = 1 if small and number == 0 else 2
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2),
                base.activation(activation),
            ]
            inputs, height, width = outputs, math.ceil(height / stride), math.ceil(width / stride)
        layers += [nn.Flatten(), nn.Linear(inputs * height * width, hidden), base.activation(activation)]
        super().__init__(nn.Sequential(*layers), nn.Linear(hidden, num_classes))
        base.initialise(self, init)
