"""A small convolutional network for signals."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from benchmark.errors import ConfigError
from benchmark.models import base
from benchmark.models.base import Classifier
from benchmark.parameters import Count

VERSION = 1

KERNELS = (9, 9, 5)
POOLED_STEPS = 4  # time steps to which a signal is pooled before the hidden layer


class Conv1d(Classifier):
    """Convolutions along time (the first with stride 2, pooling by 2 between them), a hidden layer and the head.

    Args:
        shape: (channels, steps).
        num_classes: number of logits.
        channels: of each convolution, at most three.
        hidden: width of the hidden linear layer, whose output are the features.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (9, 128),
        num_classes: int = 6,
        channels: Sequence[Count] = (16, 32, 32),
        hidden: Count = 64,
        activation: str = "relu",
    ) -> None:
        if len(shape) != 2:
            raise ConfigError(
                f"model=conv1d needs signals, but a sample of this dataset has shape {tuple(shape)}; "
                "use model=convnet for images and model=mlp for tables."
            )
        if not 1 <= len(channels) <= len(KERNELS):
            raise ConfigError(f"model.channels must hold 1 to {len(KERNELS)} numbers, got {list(channels)}.")
        layers: list[nn.Module] = []
        inputs, steps = shape
        for number, (outputs, kernel) in enumerate(zip(channels, KERNELS, strict=False)):
            if number:
                layers.append(nn.MaxPool1d(2, ceil_mode=True))
            stride = 1 if number else 2
            steps = -(-steps // 2)  # by the stride of the first convolution, by pooling before the others
            layers += [nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2), base.activation(activation)]
            inputs = outputs
        layers += [base.average_pool([steps], POOLED_STEPS), nn.Flatten()]
        layers += [nn.Linear(inputs * POOLED_STEPS, hidden), base.activation(activation)]
        super().__init__(nn.Sequential(*layers), nn.Linear(hidden, num_classes))
