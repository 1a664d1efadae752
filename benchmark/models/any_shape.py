"""Classifier for samples of any shape: the default where a data set may hold images, signals or tables."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import nn

from benchmark.models.base import Classifier
from benchmark.models.standardised import Standardised
from benchmark.parameters import Positive

VERSION = 2  # 2: strided convolutions with tanh on centred inputs, which learn in few rounds and let gradients through


class AnyShape(Classifier):
    """Strided convolutions for images and signals until 8 or 16 positions a side are left, and a hidden layer.

    Its activations are smooth, so that attacks by gradients meet no obstacle that is the network's alone.

    Args:
        shape: of one sample: (channels, height, width), (channels, steps) or (features,).
        num_classes: number of logits.
        width: of every layer, relative to 16 and then 32 channels and to 64 hidden units, 128 of tables.
    """

    first_layer: ClassVar[str] = "unknown"

    def __init__(self, *, shape: tuple[int, ...] = (1, 28, 28), num_classes: int = 10, width: Positive = 1.0) -> None:
        def wide(count: int) -> int:
            return max(1, round(width * count))

        inputs, size = shape[0], list(shape[1:])
        layers: list[nn.Module] = []
        if size:
            # a signal seldom leaves a small part of its range
            convolution, kernel, left, spread = (
                (nn.Conv1d, 9, 16, 1 / 16) if len(size) == 1 else (nn.Conv2d, 5, 8, 1 / 4)
            )
            layers.append(Standardised([0.5], [spread], inputs))
            for number in range(max(1, math.ceil(math.log2(max(size) / left)))):
                outputs = wide(32 if number else 16)
                layers += [convolution(inputs, outputs, kernel, stride=2, padding=kernel // 2), nn.Tanh()]
                inputs, size = outputs, [-(-length // 2) for length in size]
        hidden = wide(64 if size else 128)
        layers += [nn.Flatten(), nn.Linear(inputs * math.prod(size), hidden), nn.Tanh() if size else nn.ReLU()]
        super().__init__(nn.Sequential(*layers), nn.Linear(hidden, num_classes))
