"""A decoder of model outputs into images, and the loss that it is trained with."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.metrics.images import mse, ssim


class Decoder(nn.Module):
    """Outputs (n, classes) -> images (n, *shape) in [0, 1]: linear to 2x2, then stride-2 transposed convolutions.

    A small stand-in for the residual decoder of the authors' code; sides that are no power of two are cut.

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


def rebuilding_loss(guess: Tensor, x: Tensor, *, mse_weight: float, ssim_weight: float) -> Tensor:
    """``mse_weight * Huber + ssim_weight * (1 - SSIM)``, a scalar; for pixels in [0, 1] Huber (delta 1) is MSE / 2."""
    return mse_weight * mse(guess, x).mean() / 2 + ssim_weight * (1 - ssim(guess, x).mean())
