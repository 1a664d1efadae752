"""UCI HAR: windows of smartphone motion of 30 persons."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.data.archives import Wanted, arrays
from benchmark.data.base import Split
from benchmark.data.grouped import GroupedSource
from benchmark.parameters import AtLeastTwo, Sizes

VERSION = 1

RANGES = (2.0, 2.0, 2.0, 5.0, 5.0, 5.0, 2.0, 2.0, 2.0)
"""Half the range of each channel: body acceleration in g, angular velocity in rad/s, total acceleration in g."""

ARRAYS = {
    "X": Wanted("f", ("windows", 128, len(RANGES))),
    "activity": Wanted("iu", ("windows",), 0, 5),
    "subject": Wanted("iu", ("windows",), 1, 30),
}


class UciHar(GroupedSource):
    """10,299 windows of 9 channels x 128 steps at 50 Hz; the task is one of six activities (Anguita et al. 2013).

    Channels are mapped to [0, 1] by fixed ranges around 0.5 (+-2 g, +-5 rad/s) and clipped. Time is cut within each
    person's windows of an activity, because persons do the activities one after the other.
    """

    SIZES = {"owner": 4000, "attacker": 2000, "public": 2000, "calibration": 2000, "test": None}

    kind = "signal"
    GAP = 1  # a window shares half of its samples with the one before
    WITHIN_CLASS = True

    def __init__(self, *, sizes: Sizes | None = None, insiders: AtLeastTwo = 15) -> None:
        super().__init__(sizes=sizes, insiders=insiders)

    def everything(self, root: Path | None) -> tuple[Split, int]:
        found = arrays("uci_har", root, "uci_har/uci_har.npz", ARRAYS)
        half = torch.tensor(RANGES).view(1, -1, 1)
        x = torch.from_numpy(found["X"]).float().transpose(1, 2)
        subject, activity = (torch.as_tensor(found[name], dtype=torch.int64) for name in ("subject", "activity"))
        return Split((0.5 + x / (2 * half)).clamp(0, 1).contiguous(), activity, group=subject - 1), 6
