"""Classification networks of torchvision and of timm by their names, with stem and head adapted to the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.libraries import TIMM
from benchmark.models.base import image_shape
from benchmark.models.chance import of_chance
from benchmark.models.whole_networks import WholeNetwork, cannot_take, nearest, put
from benchmark.parameters import Count

VERSION = 1

SMALL = 64
"""Side in pixels below which a stem of ImageNet throws away too much."""
GROUPS, LEAST_CHANNELS = 32, 8
"""Most groups of a group normalisation (Wu, He, 2018), and the fewest channels of one."""
REMEDY = " Larger images may do: model.pad=32 or model.pad=64 adds a black margin; or try model.stem=own."


class TorchvisionNet(WholeNetwork):
    """Classification network of torchvision with its stem and head adapted to the task, without trained weights.

    The first convolution takes the channels of the samples. The last convolution of SqueezeNet acts after
    the averaging, where it is a linear layer.

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        net: its name in ``torchvision.models``.
        norm: ``group`` has group in place of batch normalisation, whose running statistics gradients cannot carry;
            ``own``: as torchvision builds it.
        stem: ``small`` halves images below 64 pixels once or twice less: the first convolution gets stride 1, if its
            windows overlap, and a pooling ``maxpool`` is left out. ``own``: as torchvision builds it.
        dropout: keep dropout and stochastic depth, which updates of several parties cannot be computed with.
        pad: side in pixels to which smaller images get a black margin; None: as they are.
        weights: safetensors file of the network's state, with torchvision's names; None: newly initialised.
        content: required hex digest of that file, or None for any.

    Raises:
        ConfigError: there is no such network, or it cannot take the samples.
        DataMissing: the file of weights is missing, damaged or of another network.
    """

    first_layer = "conv"
    remedy = REMEDY

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (3, 32, 32),
        num_classes: int = 10,
        net: str = "mobilenet_v3_small",
        norm: Literal["group", "own"] = "group",
        stem: Literal["small", "own"] = "small",
        dropout: bool = False,
        pad: Count | None = None,
        weights: str | None = None,
        content: str | None = None,
    ) -> None:
        from torchvision import models

        called = f"model.net={net}"
        size = image_shape("torchvision", shape)
        if net not in (known := models.list_models(module=models)):
            raise ConfigError(f"torchvision has no classification network {net!r}{nearest(net, known)}")
        padded = _padded(size, pad)
        whole = _built(called, size, lambda: models.get_model(net, **_arguments(net, num_classes, padded)))
        adapt(whole, padded, norm=norm, stem=stem, dropout=dropout)
        margin = _margin(size, padded)
        super().__init__(
            whole, called, shape=shape, num_classes=num_classes, margin=margin, weights=weights, content=content
        )


class TimmNet(WholeNetwork):
    """Network of timm (PyTorch Image Models) without trained weights; arguments as for :class:`TorchvisionNet`.

    Raises:
        ConfigError: timm is not installed, there is no such network, or it cannot take the samples.
        DataMissing: the file of weights is missing, damaged or of another network.
    """

    library = TIMM
    first_layer = "conv"
    remedy = REMEDY

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (3, 32, 32),
        num_classes: int = 10,
        net: str = "resnet10t",
        norm: Literal["group", "own"] = "group",
        stem: Literal["small", "own"] = "small",
        dropout: bool = False,
        pad: Count | None = None,
        weights: str | None = None,
        content: str | None = None,
    ) -> None:
        if lacking := TIMM.missing():
            raise ConfigError(f"model=timm {lacking}.")
        timm = TIMM.load()
        called = f"model.net={net}"
        size = image_shape("timm", shape)
        if not timm.is_model(net):  # also keeps out names that timm would fetch from a network
            raise ConfigError(f"timm has no network {net!r}{nearest(net, timm.list_models())}")
        padded = _padded(size, pad)

        def build() -> nn.Module:
            arguments = {"pretrained": False, "in_chans": padded[0], "num_classes": num_classes}
            try:
                return timm.create_model(net, img_size=padded[1:], **arguments)
            except TypeError:  # it takes images of any size
                return timm.create_model(net, **arguments)

        whole = _built(called, size, build)
        adapt(whole, padded, norm=norm, stem=stem, dropout=dropout)
        margin = _margin(size, padded)
        super().__init__(
            whole, called, shape=shape, num_classes=num_classes, margin=margin, weights=weights, content=content
        )


def _built(called: str, size: tuple[int, int, int], build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:  # libraries assert what sizes they take
        raise ConfigError(cannot_take(called, size, error) + REMEDY) from error


def _arguments(net: str, num_classes: int, size: tuple[int, int, int]) -> dict[str, Any]:
    """Return torchvision's arguments, some of which only some networks take."""
    found: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if net in ("googlenet", "inception_v3"):
        found |= {"aux_logits": False, "init_weights": True}
    if net.startswith("vit_"):
        found["image_size"] = size[1]
    if net.startswith("maxvit"):
        found["input_size"] = size[1:]
    return found


def _padded(size: tuple[int, int, int], pad: int | None) -> tuple[int, int, int]:
    channels, height, width = size
    return channels, max(height, pad or 0), max(width, pad or 0)


def _margin(size: tuple[int, int, int], padded: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return the pixels to the left, right, top and bottom that make an image of ``size`` as large as ``padded``."""
    across, down = padded[2] - size[2], padded[1] - size[1]
    return across // 2, -(-across // 2), down // 2, -(-down // 2)


# -- adapting ---------------------------------------------------------------------------------------------------------
def adapt(net: nn.Module, size: tuple[int, int, int], *, norm: str, stem: str, dropout: bool) -> None:
    """Change the layers of ``net`` in place to samples of ``size``; see :class:`TorchvisionNet` for the others."""
    if not dropout:
        for _, layer, probability in list(of_chance(net)):
            setattr(layer, probability, 0.0)
    _replace(net, lambda child: WRITTEN_OUT[type(child)]() if type(child) in WRITTEN_OUT else None)
    if norm == "group":
        _replace(net, lambda child: _grouped(child) if isinstance(child, nn.BatchNorm2d) else None)
    name, first = next((name, child) for name, child in net.named_modules() if isinstance(child, nn.Conv2d))
    if first.in_channels != size[0]:
        first = _of_channels(first, size[0])
        put(net, name, first)
    if stem == "small" and min(size[1:]) < SMALL:
        if first.kernel_size[0] > first.stride[0]:
            first.stride = (1, 1)
        if isinstance(getattr(net, "maxpool", None), nn.Module):
            net.maxpool = nn.Identity()


class Hardsigmoid(nn.Module):
    """The activation of the same name, in operations of which PyTorch knows the second derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return (x / 6 + 0.5).clamp(0, 1)


class Hardswish(Hardsigmoid):
    """The activation of the same name, in operations of which PyTorch knows the second derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x)


WRITTEN_OUT: dict[type[nn.Module], type[nn.Module]] = {nn.Hardsigmoid: Hardsigmoid, nn.Hardswish: Hardswish}


def _grouped(layer: nn.BatchNorm2d) -> nn.Module:
    """Return a group normalisation of as many channels, behind which comes what timm puts into its own layer."""
    channels = layer.num_features
    groups = (
        max(count for count in range(1, GROUPS + 1) if channels % count == 0 and channels // count >= LEAST_CHANNELS)
        if channels >= LEAST_CHANNELS
        else 1
    )
    found = nn.GroupNorm(groups, channels)
    behind = [getattr(layer, name) for name in ("drop", "act") if isinstance(getattr(layer, name, None), nn.Module)]
    behind = [part for part in behind if not isinstance(part, nn.Identity)]
    return nn.Sequential(found, *behind) if behind else found


def _of_channels(layer: nn.Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )


def _replace(net: nn.Module, by: Callable[[nn.Module], nn.Module | None]) -> None:
    """Put ``by(layer)`` in the place of every layer below ``net`` for which it is not None."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if (new := by(child)) is not None:
                setattr(parent, name, new)
