"""Convolutional network of fragmented federated learning, for MNIST."""

from __future__ import annotations

from torch import nn

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier, image_shape
from benchmark.models.standardised import MNIST, Standardised

VERSION = 2

KERNEL, POOL = 5, 2
DROPOUT = 0.5


class JebreelCNN(Classifier):
    """5x5 convolutions of 10 and 20 channels, each with max-pooling by 2 and a ReLU, then 50 units and the head.

    ``CNNMNIST`` in the code of Jebreel et al., *Enhanced Security and Privacy via Fragmented Federated Learning*, IEEE
    TNNLS 2024: 21,840 parameters for one channel of 28x28 pixels and ten classes, with dropout of half the channels of
    the second convolution and of half the units. Inputs are in [0, 1]; it standardises them itself.
    """

    first_layer = "conv"

    def __init__(self, *, shape: tuple[int, ...] = (1, 28, 28), num_classes: int = 10) -> None:
        channels, height, width = image_shape("jebreel_cnn", shape)
        sides = [_side_after(_side_after(side)) for side in (height, width)]
        if min(sides) < 1:
            raise ConfigError(f"{height}x{width} pixels are too few for model=jebreel_cnn; use 16x16 or more.")
        body = nn.Sequential(
            Standardised(*MNIST, channels),
            nn.Conv2d(channels, 10, KERNEL),
            nn.MaxPool2d(POOL),
            nn.ReLU(),
            nn.Conv2d(10, 20, KERNEL),
            nn.Dropout2d(DROPOUT),
            nn.MaxPool2d(POOL),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(20 * sides[0] * sides[1], 50),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
        )
        super().__init__(body, nn.Linear(50, num_classes))


def _side_after(side: int) -> int:
    """Return the side of the map after a convolution and a pooling."""
    return (side - KERNEL + 1) // POOL
