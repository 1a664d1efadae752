"""Strided convolutional classifier of GAN attacks, with gradients that train a generator, small enough for digits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from benchmark.models.base import Classifier, image_shape
from benchmark.parameters import Count

VERSION = 2
SLOPE = 0.2


class Centre(nn.Module):
    """Map of [0, 1] to [-1, 1], the range of the attacks' papers."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class LeakyConvNet(Classifier):
    """3x3 convolutions (strides ``stem``, 2, 2, ...), leaky ReLUs, a hidden layer and the head.

    It has no pooling, whose gradient reaches few pixels. It takes images in [0, 1] and centres them itself.

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        channels: of each convolution.
        stem: stride of the first convolution.
        hidden: width of the hidden linear layer, whose output are the features.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (1, 28, 28),
        num_classes: int = 10,
        channels: Sequence[Count] = (32, 64, 64),
        stem: Count = 1,
        hidden: Count = 200,
    ) -> None:
        inputs, height, width = image_shape("leaky_convnet", shape)
        layers: list[nn.Module] = [Centre()]
        for number, outputs in enumerate(channels):
            stride = stem if number == 0 else 2
            layers += [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.LeakyReLU(SLOPE)]
            inputs, height, width = outputs, -(-height // stride), -(-width // stride)
        layers += [nn.Flatten(), nn.Linear(inputs * height * width, hidden), nn.LeakyReLU(SLOPE)]
        super().__init__(nn.Sequential(*layers), nn.Linear(hidden, num_classes))
