"""Generated hiring data, for fairness experiments without a download.

Lipton, Chouldechova, McAuley, *Does mitigating ML's impact disparity require treatment disparity?*, 2018, section 4.1.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from benchmark.data.base import Source, Split
from benchmark.seeds import derive

VERSION = 1

TRAIN, TEST = 9000, 3000


class Lipton(Source):
    """Hair length and work experience of women (``sensitive`` 0) and men (1, privileged); the task is who is hired (1).

    ``hair ~ 35 Beta(2, 2)`` for women and ``35 Beta(2, 7)`` for men, ``work ~ Poisson(25 + 6 [man]) - N(20, 0.2)``,
    ``P(hired) = sigmoid(2.5 work - 25.5)``: hair reveals the group and is irrelevant for the job. 12,000 people, the
    same for every seed; both columns are min-max scaled by the training pool, test values outside clipped.
    """

    SIZES = {"owner": 2400, "attacker": 800, "public": 400, "calibration": 800, "test": 800}

    kind = "tabular"
    has_sensitive: ClassVar[bool] = True

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        rng = np.random.default_rng(derive(0, "lipton.people"))
        man = rng.random(TRAIN + TEST) < 0.5
        hair = 35 * np.where(man, rng.beta(2, 7, len(man)), rng.beta(2, 2, len(man)))
        work = rng.poisson(25 + 6 * man) - rng.normal(20, 0.2, len(man))
        hired = rng.random(len(man)) < 1 / (1 + np.exp(-(2.5 * work - 25.5)))
        x = np.stack([hair, work], axis=1)
        low, high = x[:TRAIN].min(axis=0), x[:TRAIN].max(axis=0)
        x = ((x - low) / (high - low)).clip(0, 1)
        people = Split(
            torch.as_tensor(x, dtype=torch.float32),
            torch.as_tensor(hired.astype(np.int64)),
            torch.as_tensor(man.astype(np.int64)),
        )
        return people[:TRAIN], people[TRAIN:], 2
