"""Wide residual network of 28 layers in pre-activation form, the classifier of the *Vicious Classifiers* paper."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.models.base import Classifier, image_shape
from benchmark.models.standardised import Standardised
from benchmark.parameters import Count, Positive

VERSION = 1
BLOCKS = 4  # in each of three groups: 28 layers


class WideResNet28(Classifier):
    """Three groups of residual blocks with 16, 32 and 64 times ``width`` channels (Zagoruyko, Komodakis, BMVC 2016).

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        width: 1 for MNIST and 5 for other images in arXiv 2212.04223.
        means, deviations: of the training images' channels, by which inputs are standardised, as in the authors' code;
            None standardises each batch, and in use by running statistics.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (1, 28, 28),
        num_classes: int = 10,
        width: Count = 1,
        means: Sequence[float] | None = None,
        deviations: Sequence[Positive] | None = None,
    ) -> None:
        channels, _, _ = image_shape("wide_resnet28", shape)
        if (means is None) != (deviations is None):
            raise ConfigError("model.means and model.deviations go together; give both or neither.")
        standardised: nn.Module = nn.BatchNorm2d(channels, affine=False)
        if means is not None and deviations is not None:
            standardised = Standardised(means, deviations, channels)
        layers: list[nn.Module] = [standardised, nn.Conv2d(channels, 16, 3, padding=1)]
        inputs = 16
        for group, outputs in enumerate((16 * width, 32 * width, 64 * width)):
            for block in range(BLOCKS):
                stride = 2 if group and not block else 1
                layers.append(PreActivation(inputs, outputs, stride))
                inputs = outputs
        layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(nn.Sequential(*layers), nn.Linear(inputs, num_classes))


class PreActivation(nn.Module):
    """BN-ReLU-convolution twice with a shortcut; (n, inputs, h, w) -> (n, outputs, h / stride, w / stride).

    Args:
        transposed: use transposed convolutions, so that the stride multiplies the side instead.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, transposed: bool = False) -> None:
        super().__init__()
        convolution = _transposed_convolution if transposed else _convolution
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.residual = nn.Sequential(
            convolution(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.before(x)
        kept = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(active)
        return self.residual(active) + kept


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)


def _transposed_convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, output_padding=stride - 1)
