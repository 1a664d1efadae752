"""Apnea-ECG: heart rate of sleeping people, minute by minute, with or without apnea."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from benchmark.data.archives import Wanted, arrays
from benchmark.data.base import Split
from benchmark.data.grouped import GroupedSource
from benchmark.errors import DataMissing

VERSION = 1

HZ, SECONDS = 4, 60
PLAUSIBLE = (0.3, 2.0)  # seconds between two beats; others are artefacts
BEATS = 30  # least number in a minute with a known heart rate
SPAN = 50.0  # beats per minute that [0, 1] spans around the window's mean
MIXED = (0.15, 0.85, 350)  # least and greatest share of apnea, least number of minutes

FILE, SEVERITIES = "apnea_ecg/apnea_ecg_rr.npz", "abc"
ARRAYS = {
    "record": Wanted("U", ("records",)),
    "tick": Wanted("iu", ("beats",), 0),
    "rr": Wanted("iu", ("beats",), 0),
    "beat_record": Wanted("iu", ("beats",), 0),
    "minute_record": Wanted("iu", ("minutes",), 0),
    "apnea": Wanted("iub", ("minutes",), 0, 1),
}


class ApneaEcg(GroupedSource):
    """One-minute windows of heart rate, 1 x 240 at 4 Hz; the task is apnea in that minute (Penzel et al. 2000).

    Only the 36 recordings with both classes (15 to 85 % apnea) and more than 350 minutes are used, because a recording
    of one class would reveal itself. Each window is centred on its own mean; +-25 beats per minute span [0, 1].

    ``group`` is the recording: 70 of them come from 32 persons, so it is not quite a person. ``sensitive`` is the
    severity group a, b or c of its name, of which some were assigned by the data's collector.
    """

    SIZES = {"owner": 8000, "attacker": 4000, "public": 4000, "calibration": 4000, "test": None}

    kind = "signal"
    has_sensitive: ClassVar[bool] = True

    def everything(self, root: Path | None) -> tuple[Split, int]:
        found = arrays("apnea_ecg", root, FILE, ARRAYS)
        if strange := [name for name in found["record"].tolist() if name[:1] not in SEVERITIES or not name]:
            raise DataMissing(f"{FILE} is not the file of apnea_ecg: it has a record {strange[0]!r}. Get it again.")
        parts = []
        for number, name in enumerate(found["record"]):
            apnea = found["apnea"][found["minute_record"] == number]
            share = apnea.mean() if len(apnea) else 0.0
            if not (MIXED[0] <= share <= MIXED[1] and len(apnea) > MIXED[2]):
                continue
            own = found["beat_record"] == number
            x, minutes = windows(found["tick"][own] / 100, found["rr"][own] / 100, len(apnea))
            severity = torch.full((len(x),), SEVERITIES.index(str(name)[0]))
            y = torch.as_tensor(apnea[minutes].astype(np.int64))
            parts.append(Split(torch.from_numpy(x).unsqueeze(1), y, severity, torch.full((len(x),), number)))
        if not parts:
            raise DataMissing(f"{FILE} is not the file of apnea_ecg: no recording has both classes. Get it again.")
        data = parts[0]
        for part in parts[1:]:
            data = data.joined(part)
        return data, 2


def windows(time: np.ndarray, interval: np.ndarray, minutes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return windows of heart rate, float32 (n, 240) in [0, 1], and their minutes, int64 (n,) below ``minutes``.

    Args:
        time: (beats,) seconds from the record's start.
        interval: (beats,) seconds since the beat before.
    """
    plausible = (interval >= PLAUSIBLE[0]) & (interval <= PLAUSIBLE[1])
    time, rate = time[plausible], 60 / interval[plausible]
    beats = np.bincount((time // SECONDS).astype(np.int64), minlength=minutes)[:minutes]
    kept = np.flatnonzero(beats >= BEATS)
    grid = kept[:, None] * SECONDS + np.arange(SECONDS * HZ) / HZ
    x = np.interp(grid.ravel(), time, rate).reshape(grid.shape)
    return (0.5 + (x - x.mean(axis=1, keepdims=True)) / SPAN).clip(0, 1).astype(np.float32), kept
