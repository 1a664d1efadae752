"""A small convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from benchmark.errors import ConfigError
from benchmark.models import base
from benchmark.models.base import Classifier, image_shape
from benchmark.parameters import Count

VERSION = 1


class ConvNet(Classifier):
    """3x3 convolutions, each with an activation and 2x2 max-pooling, a hidden linear layer and the head.

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        channels: of each convolution; the image is halved (rounded down) after each.
        hidden: width of the hidden linear layer, whose output are the features.
        activation: after every layer but the head.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (3, 32, 32),
        num_classes: int = 10,
        channels: Sequence[Count] = (32, 64),
        hidden: Count = 128,
        activation: str = "relu",
    ) -> None:
        inputs, height, width = image_shape("convnet", shape)
        if min(height, width) >> len(channels) == 0:
            raise ConfigError(
                f"{len(channels)} convolutions with pooling leave nothing of {height}x{width} pixels; "
                "shorten model.channels."
            )
        layers: list[nn.Module] = []
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), base.activation(activation), nn.MaxPool2d(2)]
            inputs, height, width = outputs, height // 2, width // 2
        layers += [nn.Flatten(), nn.Linear(inputs * height * width, hidden), base.activation(activation)]
        super().__init__(nn.Sequential(*layers), nn.Linear(hidden, num_classes))
