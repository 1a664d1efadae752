"""Digits with made-up writers: identities and a sensitive attribute without a download.

For tests and smoke runs of what needs ``group`` and ``sensitive`` on images; the writers are ours, not the data's.
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
    """scikit-learn's digits, 16x16, each "written" by one of 20 writers: a fixed slant, size, shift and stroke gain.

    ``group`` is the writer, ``sensitive`` the hand (writers of slant above or below zero, half of them each). Ten
    writers are in the owner's data, ten are not.
    """

    has_sensitive: ClassVar[bool] = True
    WRITERS = 20

    def everything(self, root: Path | None) -> tuple[Split, int]:
        train, test, classes = Digits(sizes={}).pools(root)
        rng = generator(0, "digits.writers")
        plain = train.joined(test)
        plain = plain[torch.randperm(len(plain), generator=rng)]
        writer = torch.arange(len(plain)) % self.WRITERS
        hand = writer % 2
        slant = (0.15 + 0.35 * torch.rand(self.WRITERS, generator=rng)) * (2 * (torch.arange(self.WRITERS) % 2) - 1)
        size = 0.85 + 0.3 * torch.rand(self.WRITERS, generator=rng)
        shift = 0.2 * (torch.rand((self.WRITERS, 2), generator=rng) - 0.5)
        gain = 0.7 + 0.3 * torch.rand(self.WRITERS, generator=rng)
        x = written(plain.x, slant[writer], size[writer], shift[writer]) * gain[writer].view(-1, 1, 1, 1)
        return Split(x.clamp(0, 1), plain.y, sensitive=hand, group=writer), classes


def written(x: Tensor, slant: Tensor, size: Tensor, shift: Tensor) -> Tensor:
    """(n, 1, 8, 8) images sheared, scaled and shifted, drawn at 16x16; slant, size (n,), shift (n, 2)."""
    zeros = torch.zeros_like(slant)
    rows = [torch.stack([1 / size, slant, shift[:, 0]], 1), torch.stack([zeros, 1 / size, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), [len(x), 1, 16, 16], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
