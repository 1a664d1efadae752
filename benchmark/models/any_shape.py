"""Classifier for samples of any shape: the default where a data set may hold images, signals or tables."""

from __future__ import annotations

from typing import ClassVar

from benchmark.models.base import Classifier
from benchmark.models.by_shape import network_for
from benchmark.models.mlp import MLP
from benchmark.parameters import Positive

VERSION = 1

SMALLEST = 4
"""Pixels of an image's side below which two poolings would leave nothing of it."""


class AnyShape(Classifier):
    """Convolutions for images and signals, a dense network for tables and for images of less than 4 pixels a side.

    Args:
        shape: of one sample: (channels, height, width), (channels, steps) or (features,).
        num_classes: number of logits.
        width: of every layer, relative to 32 and 64 channels (16, 32 and 32 of signals) and 128 hidden units.
    """

    first_layer: ClassVar[str] = "unknown"

    def __init__(self, *, shape: tuple[int, ...] = (1, 28, 28), num_classes: int = 10, width: Positive = 1.0) -> None:
        if len(shape) == 3 and min(shape[1:]) < SMALLEST:
            network: Classifier = MLP(shape=shape, num_classes=num_classes, hidden=[max(1, round(128 * width))])
        else:
            network = network_for(shape, num_classes, width)
        super().__init__(network.body, network.head)
