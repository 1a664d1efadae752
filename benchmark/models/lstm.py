"""Recurrent network for signals."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier
from benchmark.parameters import Count

VERSION = 1


class Recurrence(nn.Module):
    """LSTM that reads ``frame`` steps at a time: (n, channels, steps) -> last hidden state (n, hidden)."""

    def __init__(self, channels: int, frame: int, hidden: int) -> None:
        super().__init__()
        self.frame = frame
        self.cells = nn.LSTM(channels * frame, hidden, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[2] % self.frame))
        frames = x.unflatten(2, (-1, self.frame)).transpose(1, 2).flatten(2)
        # cuDNN's recurrent kernels have no second derivative and no rule for vmap, and differentiate only in training
        # mode; torch's own kernels do all of it.
        with torch.backends.cudnn.flags(enabled=False):
            _, (last, _) = self.cells(frames)
        return last[0]


class LSTM(Classifier):
    """LSTM over frames of a signal, whose last hidden state is the feature vector.

    Args:
        shape: (channels, steps).
        num_classes: number of logits.
        frame: steps read at once.
        hidden: width of the state.
    """

    first_layer = "recurrent"

    def __init__(
        self, *, shape: tuple[int, ...] = (9, 128), num_classes: int = 6, frame: Count = 8, hidden: Count = 32
    ) -> None:
        if len(shape) != 2:
            raise ConfigError(
                f"model=lstm needs signals, but a sample of this dataset has shape {tuple(shape)}; "
                "use model=convnet for images and model=mlp for tables."
            )
        super().__init__(Recurrence(shape[0], frame, hidden), nn.Linear(hidden, num_classes))
