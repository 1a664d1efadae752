"""The convolutional classifier of collaborative learning on MNIST (Shokri, Shmatikov 2015; Hitaj et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier, image_shape
from benchmark.models.leaky_convnet import Centre

VERSION = 1
SIDE = 32


class Padded(nn.Module):
    """Black border around images (n, c, h, w) up to (n, c, 32, 32), which turns 28 pixels into the paper's 32."""

    def forward(self, x: Tensor) -> Tensor:
        down, right = SIDE - x.shape[-2], SIDE - x.shape[-1]
        return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


class HitajCNN(Classifier):
    """5x5 convolutions of 32 and 64 channels with tanh and max-pooling by 3 and 2, then 256-200-classes with tanh.

    With one channel and ten classes it has 105,506 parameters. Layer sizes are from memory, because the papers' text
    was not at hand. It takes images of at most 32x32 pixels in [0, 1].
    """

    first_layer = "conv"

    def __init__(self, *, shape: tuple[int, ...] = (1, 28, 28), num_classes: int = 10) -> None:
        channels, height, width = image_shape("hitaj_cnn", shape)
        if max(height, width) > SIDE:
            raise ConfigError(f"model=hitaj_cnn takes images of at most {SIDE}x{SIDE} pixels, got {height}x{width}.")
        body = nn.Sequential(
            Padded(),
            Centre(),
            nn.Conv2d(channels, 32, 5),
            nn.Tanh(),
            nn.MaxPool2d(3),
            nn.Conv2d(32, 64, 5),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 200),
            nn.Tanh(),
        )
        super().__init__(body, nn.Linear(200, num_classes))
