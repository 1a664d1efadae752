"""Recipe of a training beside its epochs and rate: optimiser, weight decay, schedule of the rate, augmentation.

Plain Adam at a constant rate, the default, is enough for small sets and networks. Photographs want the usual rest: a
rate that falls to zero, weights that decay, and images that are shifted by a few pixels and mirrored.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from benchmark.errors import ConfigError
from benchmark.parameters import Checked, CountOrZero, NonNegative

VERSION = 1
MOMENTUM = 0.9


class Recipe(Checked):
    """Optimiser, schedule and augmentation of a training; by default plain Adam.

    Args:
        optimizer: ``adam``; ``adamw``, whose weight decay is apart from the gradient; or ``sgd`` with Nesterov's
            momentum.
        weight_decay: of all weights.
        schedule: of the rate over all steps: ``constant``; ``cosine``, which falls to zero; or ``one_cycle``, which
            climbs first.
        crop: pixels of black margin from which every image is cut anew at random; 0: none.
        flip: whether images are mirrored with probability 1/2, which digits do not bear.
    """

    place = "setting.recipe"

    def __init__(
        self,
        *,
        optimizer: Literal["adam", "adamw", "sgd"] = "adam",
        weight_decay: NonNegative = 0.0,
        schedule: Literal["constant", "cosine", "one_cycle"] = "constant",
        crop: CountOrZero = 0,
        flip: bool = False,
    ) -> None:
        if optimizer == "adam" and weight_decay:
            raise ConfigError("setting.recipe.weight_decay wants setting.recipe.optimizer=adamw or sgd.")
        self.optimizer, self.weight_decay, self.schedule = optimizer, weight_decay, schedule
        self.crop, self.flip = crop, flip

    def prepare(self, module: nn.Module, *, lr: float, steps: int) -> tuple[Optimizer, LRScheduler | None]:
        """Return the optimiser of ``module`` and what changes its rate after each of ``steps`` steps."""
        weights = module.parameters()
        optimizer: Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                weights, lr=lr, momentum=MOMENTUM, nesterov=True, weight_decay=self.weight_decay
            )
        elif self.optimizer == "adamw":
            optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=self.weight_decay)
        else:
            optimizer = torch.optim.Adam(weights, lr=lr)
        if self.schedule == "constant" or steps == 0:
            return optimizer, None
        if self.schedule == "cosine":
            return optimizer, CosineAnnealingLR(optimizer, T_max=steps)
        return optimizer, OneCycleLR(optimizer, max_lr=lr, total_steps=steps)

    def augmented(self, x: Float[Tensor, "n ..."], rng: torch.Generator) -> Float[Tensor, "n ..."]:
        """Return a batch of images (n, channels, height, width) as altered by chance; anything else as it is."""
        if x.ndim != 4:
            return x
        if self.flip:
            mirrored = (torch.rand(len(x), generator=rng) < 0.5).to(x.device, non_blocking=True)
            x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
        if self.crop:
            corners = torch.randint(2 * self.crop + 1, (2, len(x)), generator=rng).to(x.device, non_blocking=True)
            x = cropped(F.pad(x, (self.crop,) * 4), *corners, size=x.shape[-2:])
        return x


def cropped(
    x: Float[Tensor, "n c height width"], top: Tensor, left: Tensor, *, size: tuple[int, ...]
) -> Float[Tensor, "n c h w"]:
    """Return from each image the part of ``size`` (h, w) whose upper left corner is at (top, left), int64 (n,) each."""
    rows = top[:, None] + torch.arange(size[0], device=x.device)
    columns = left[:, None] + torch.arange(size[1], device=x.device)
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
