"""Decoders of model outputs into images."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.models.wide_resnet import PreActivation


class Decoder(nn.Module):
    """Outputs (n, classes) -> images (n, *shape) in [0, 1]: linear to 2x2, then stride-2 transposed convolutions.

    A small substitute for the residual decoder of the authors' code (arXiv 2212.04223); sides that are no power of two
    are cut.

    Args:
        width: channels of the coarsest map, halved at each but the last doubling of the resolution.
    """

    def __init__(self, *, num_classes: int, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ConfigError(f"the decoder rebuilds images, but a sample here has shape {tuple(shape)}.")
        self.shape, self.width = shape, width
        self.start = nn.Linear(num_classes, width * 4)
        layers: list[nn.Module] = []
        side, channels = 2, width
        while side < max(shape[1:]):
            side, last = 2 * side, 2 * side >= max(shape[1:])
            after = shape[0] if last else max(channels // 2, 8)
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.ConvTranspose2d(channels, after, 4, stride=2, padding=1)]
            channels = after
        self.layers = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, outputs: Tensor) -> Tensor:
        images = self.layers(self.start(outputs).view(-1, self.width, 2, 2))
        return images[..., : self.shape[1], : self.shape[2]]


class ResidualDecoder(nn.Module):
    """Outputs (n, classes) -> images (n, *shape) in [0, 1], with residual blocks as in the authors' code.

    Linear to 4x4, then groups of pre-activation transposed blocks, each of which doubles the side; a 3x3 transposed
    convolution and a sigmoid end it.

    Args:
        width: channels of the 4x4 map, halved by each group, but never below 8.
        blocks: in each group (4 in the code).
    """

    def __init__(self, *, num_classes: int, shape: tuple[int, ...], width: int, blocks: int) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ConfigError(f"the decoder rebuilds images, but a sample here has shape {tuple(shape)}.")
        self.shape, self.width = shape, width
        self.start = nn.Linear(num_classes, width * 16)
        layers: list[nn.Module] = []
        side, channels = 4, width
        while side < max(shape[1:]):
            side, after = 2 * side, max(channels // 2, 8)
            layers.append(PreActivation(channels, after, 2, transposed=True))
            layers += [PreActivation(after, after, 1, transposed=True) for _ in range(blocks - 1)]
            channels = after
        layers += [nn.ConvTranspose2d(channels, shape[0], 3, padding=1), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers)

    def forward(self, outputs: Tensor) -> Tensor:
        images = self.layers(self.start(outputs).view(-1, self.width, 4, 4))
        return images[..., : self.shape[1], : self.shape[2]]


def new_decoder(*, num_classes: int, shape: tuple[int, ...], width: int, blocks: int) -> nn.Module:
    """Return a residual decoder, or the small one if ``blocks`` is 0."""
    if blocks:
        return ResidualDecoder(num_classes=num_classes, shape=shape, width=width, blocks=blocks)
    return Decoder(num_classes=num_classes, shape=shape, width=width)
