"""Network of the defensive distillation paper, also attacked by Carlini and Wagner."""

from __future__ import annotations

from torch import nn

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier, image_shape
from benchmark.parameters import BelowOne, Count, CountOrZero

VERSION = 1


class PapernotCNN(Classifier):
    """Twice two 3x3 convolutions and 2x2 max-pooling, two hidden linear layers with dropout between them, the head.

    Papernot et al., S&P 2016, table I; Carlini and Wagner, S&P 2017, table I. Every layer but the head ends in a ReLU.

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        width: channels of the first two convolutions, doubled in the others (32 for MNIST, 64 for CIFAR-10).
        hidden: of both linear layers (200, 256).
        padding: 0 as in the papers, 1 for images too small for that.
        dropout: after the first hidden layer.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (1, 28, 28),
        num_classes: int = 10,
        width: Count = 32,
        hidden: Count = 200,
        padding: CountOrZero = 1,
        dropout: BelowOne = 0.5,
    ) -> None:
        inputs, height, width_in = image_shape("papernot_cnn", shape)
        sides = [_side_after(_side_after(side, padding), padding) for side in (height, width_in)]
        if min(sides) < 1:
            raise ConfigError(f"{height}x{width_in} pixels are too few for model.padding={padding}; use 1.")
        layers: list[nn.Module] = []
        for outputs in (width, 2 * width):
            for _ in range(2):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=padding), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Flatten(), nn.Linear(inputs * sides[0] * sides[1], hidden), nn.ReLU(), nn.Dropout(dropout)]
        layers += [nn.Linear(hidden, hidden), nn.ReLU()]
        super().__init__(nn.Sequential(*layers), nn.Linear(hidden, num_classes))


def _side_after(side: int, padding: int) -> int:
    """Return the side of the map after two convolutions and a pooling."""
    return (side - 4 * (1 - padding)) // 2
