"""Digits with synthetic writers: identities and a sensitive attribute without a download.

For tests and smoke runs of code that needs ``group`` and ``sensitive`` on images; the writers are not part of the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.data.grouped import GroupedSource
from benchmark.seeds import generator

VERSION = 1


class DigitsWriters(GroupedSource):
    """scikit-learn's digits at 16x16, "written" by 20 synthetic writers of fixed slant, size, shift and stroke gain.

    ``group`` is the writer, ``sensitive`` the hand (slant above or below zero, half of the writers each). Ten writers
    are in the owner's data, ten are not.
    """

    SIZES = {"owner": 440, "attacker": 220, "public": 400, "calibration": 220, "test": None}

    has_sensitive: ClassVar[bool] = True
    WRITERS = 20

    def everything(self, root: Path | None) -> tuple[Split, int]:
        train, test, classes = Digits(sizes={}).pools(root)
        rng = generator(0, "digits.writers")
        original = train.joined(test)
        original = original[torch.randperm(len(original), generator=rng)]
        writer = torch.arange(len(original)) % self.WRITERS
        hand = writer % 2
        slant = (0.15 + 0.35 * torch.rand(self.WRITERS, generator=rng)) * (2 * (torch.arange(self.WRITERS) % 2) - 1)
        size = 0.85 + 0.3 * torch.rand(self.WRITERS, generator=rng)
        shift = 0.2 * (torch.rand((self.WRITERS, 2), generator=rng) - 0.5)
        gain = 0.7 + 0.3 * torch.rand(self.WRITERS, generator=rng)
        x = render(original.x, slant[writer], size[writer], shift[writer]) * gain[writer].view(-1, 1, 1, 1)
        return Split(x.clamp(0, 1), original.y, sensitive=hand, group=writer), classes


def render(x: Tensor, slant: Tensor, size: Tensor, shift: Tensor) -> Tensor:
    """Return images (n, 1, 8, 8) sheared, scaled and shifted at 16x16; slant, size (n,), shift (n, 2)."""
    zeros = torch.zeros_like(slant)
    rows = [torch.stack([1 / size, slant, shift[:, 0]], 1), torch.stack([zeros, 1 / size, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), [len(x), 1, 16, 16], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
