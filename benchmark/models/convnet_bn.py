"""A convolutional network with batch normalisation, which pulls the logits of a class together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from benchmark.models.base import Classifier, average_pool, image_shape
from benchmark.parameters import Count

VERSION = 1
POOLED = 2


class ConvNetBN(Classifier):
    """3x3 convolutions with batch normalisation and ReLU, average-pooled to 2x2; no hidden linear layer.

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        channels: of each convolution; the second one has stride 2.
    """

    first_layer = "conv"

    def __init__(
        self, *, shape: tuple[int, ...] = (3, 32, 32), num_classes: int = 10, channels: Sequence[Count] = (32, 64, 64)
    ) -> None:
        inputs, *size = image_shape("convnet_bn", shape)
        layers: list[nn.Module] = []
        for index, outputs in enumerate(channels):
            stride = 2 if index == 1 else 1
            layers += [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs, size = outputs, [-(-length // stride) for length in size]
        body = nn.Sequential(*layers, average_pool(size, POOLED), nn.Flatten())
        super().__init__(body, nn.Linear(inputs * POOLED**2, num_classes))
