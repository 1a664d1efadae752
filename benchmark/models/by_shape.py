"""A network for any shape of samples, for mechanisms whose networks are not the cell's model."""

from __future__ import annotations

from benchmark.models.base import Classifier
from benchmark.models.conv1d import Conv1d
from benchmark.models.convnet import ConvNet
from benchmark.models.mlp import MLP


def network_for(shape: tuple[int, ...], num_classes: int, width: float = 1.0) -> Classifier:
    """Return a network of relative ``width``: convolutions for images and signals (c, steps), dense for tables."""

    def wide(count: int) -> int:
        return max(1, round(width * count))

    if len(shape) == 3:
        channels = [wide(32), wide(64)]
        return ConvNet(shape=shape, num_classes=num_classes, channels=channels, hidden=wide(128), activation="relu")
    if len(shape) == 2:
        channels = [wide(16), wide(32), wide(32)]
        return Conv1d(shape=shape, num_classes=num_classes, channels=channels, hidden=wide(64), activation="relu")
    return MLP(shape=shape, num_classes=num_classes, hidden=[wide(128)], activation="relu")
