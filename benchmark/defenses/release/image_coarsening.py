"""Baselines without proxies: images of reduced detail, or mixed in pairs."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.instahide import random_partners
from benchmark.errors import ConfigError
from benchmark.parameters import Count
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1


class Blur(ReleaseMechanism):
    """Mechanism that releases images averaged over a window.

    Args:
        side: of the window in pixels, odd.
    """

    needs = {"dataset.kind": "image"}

    def __init__(self, *, side: Count = 5) -> None:
        if side < 1 or side % 2 == 0:
            raise ConfigError(f"blur.side must be odd and positive, got {side}.")
        self.side = side

    def release(self, private: Split, rng: torch.Generator) -> Release:
        x = F.avg_pool2d(private.x, self.side, stride=1, padding=self.side // 2, count_include_pad=False)
        return Release(x, private.y, torch.arange(len(private)))


class Pixelate(ReleaseMechanism):
    """Mechanism that releases images averaged over a grid of cells, each cell with one value.

    Args:
        cells: along each side.
    """

    needs = {"dataset.kind": "image"}

    def __init__(self, *, cells: Count = 8) -> None:
        self.cells = cells

    def release(self, private: Split, rng: torch.Generator) -> Release:
        coarse = F.adaptive_avg_pool2d(private.x, self.cells)
        x = F.interpolate(coarse, size=private.x.shape[-2:], mode="nearest")
        return Release(x, private.y, torch.arange(len(private)))


class PairMix(ReleaseMechanism):
    """Mechanism that releases ``share * x + (1 - share) * x'``, x' another private image, with the label of x.

    Args:
        share: of the image whose label is kept, in (0.5, 1].
    """

    needs = {"dataset.kind": "image"}

    def __init__(self, *, share: Annotated[float, Gt(0.5), Le(1)] = 0.6) -> None:
        self.share = share

    def release(self, private: Split, rng: torch.Generator) -> Release:
        first = torch.arange(len(private))
        partner = random_partners(first, len(private), rng).to(private.x.device)
        return Release(self.share * private.x + (1 - self.share) * private.x[partner], private.y, first)
