"""ResNet-18 of torchvision, for large and small images."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from benchmark.models.base import Classifier, image_shape

VERSION = 1

GROUPS = 32  # Wu and He, Group Normalization, 2018


class ResNet18(Classifier):
    """Residual network of 18 layers (He et al. 2016).

    Args:
        shape: (channels, height, width).
        num_classes: number of logits.
        norm: ``group``, or ``batch``, which keeps running statistics: uploads carry them, gradients cannot.
        stem: ``small`` is a 3x3 convolution without pooling, as is usual for images of 32x32 and below;
            ``imagenet`` is the paper's 7x7 with stride 2 and pooling.
    """

    first_layer = "conv"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (3, 32, 32),
        num_classes: int = 10,
        norm: Literal["group", "batch"] = "group",
        stem: Literal["small", "imagenet"] = "small",
    ) -> None:
        from torchvision.models import resnet18

        channels, _, _ = image_shape("resnet18", shape)
        body = resnet18(norm_layer=partial(nn.GroupNorm, GROUPS) if norm == "group" else nn.BatchNorm2d)
        width = body.conv1.out_channels
        if stem == "small":
            body.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            body.maxpool = nn.Identity()
        else:
            body.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        features = body.fc.in_features
        body.fc = nn.Identity()
        super().__init__(body, nn.Linear(features, num_classes))
