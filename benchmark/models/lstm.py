"""A recurrent network for signals."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier

VERSION = 1


class Recurrence(nn.Module):
    """(n, channels, steps) to the last hidden state (n, hidden) of an LSTM that reads ``frame`` steps at a time."""

    def __init__(self, channels: int, frame: int, hidden: int) -> None:
        super().__init__()
        self.frame = frame
        self.cells = nn.LSTM(channels * frame, hidden, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[2] % self.frame))
        frames = x.unflatten(2, (-1, self.frame)).transpose(1, 2).flatten(2)
        _, (last, _) = self.cells(frames)
        return last[0]


class LSTM(Classifier):
    """An LSTM over frames of a signal; the last hidden state are the features.

    Args:
        shape: (channels, steps); num_classes: logits.
        frame: steps that are read at once. hidden: width of the state.
    """

    first_layer = "recurrent"

    def __init__(self, *, shape: tuple[int, ...], num_classes: int, frame: int, hidden: int) -> None:
        if len(shape) != 2:
            raise ConfigError(
                f"model=lstm needs signals, but a sample of this dataset has shape {tuple(shape)}; "
                "use model=convnet for images and model=mlp for tables."
            )
        super().__init__(Recurrence(shape[0], frame, hidden), nn.Linear(hidden, num_classes))
