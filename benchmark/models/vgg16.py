"""VGG-16 without batch normalisation, for small colour images."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier, image_shape
from benchmark.models.standardised import CIFAR10, Standardised

VERSION = 1

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
POOLED = 7


class Repeated(nn.Module):
    """Maps (n, c, h, w) averaged to 7x7; where they are 1x1 the one value is repeated."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == (1, 1):
            return x.expand(-1, -1, POOLED, POOLED)
        return nn.functional.adaptive_avg_pool2d(x, POOLED)


class VGG16(Classifier):
    """Thirteen 3x3 convolutions in five blocks with max-pooling, and one linear layer as the head.

    Simonyan, Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, ICLR 2015, configuration
    D, with torchvision's initial weights and the single linear layer of Jebreel et al. (IEEE TNNLS 2024) in place of
    three. It takes images in [0, 1] of at least 32x32 pixels and standardises them as CIFAR-10.
    """

    first_layer = "conv"

    def __init__(self, *, shape: tuple[int, ...] = (3, 32, 32), num_classes: int = 10) -> None:
        channels, height, width = image_shape("vgg16", shape)
        if min(height, width) < 2 ** len(WIDTHS):
            raise ConfigError(f"{height}x{width} pixels are too few for model=vgg16; it takes 32x32 or more.")
        layers: list[nn.Module] = [Standardised(*CIFAR10, channels)]
        for block in WIDTHS:
            for outputs in block:
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        super().__init__(nn.Sequential(*layers, Repeated(), nn.Flatten()), nn.Linear(channels * POOLED**2, num_classes))
        for layer in self.body.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
