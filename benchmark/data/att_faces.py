"""AT&T faces (ORL, Olivetti): ten photographs of each of forty persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmark.data.base import Source, Split, balanced_order, file_in_root
from benchmark.errors import DataMissing
from benchmark.parameters import Count, Sizes
from benchmark.seeds import generator

VERSION = 1
FILE = Path("att_faces") / "att_faces.npz"
PERSONS, SHOTS, TEST_SHOTS = 40, 10, 2

REMEDY = (
    ". Put an .npz file with the arrays images (400, 112, 92) uint8 and subject (400,) from 1 to 40 there, or name "
    "another data root with data.root=PATH or GAUNTLET_DATA."
)


class ATTFaces(Source):
    """400 grey images, 112x92 in the file, of 40 persons, who are the classes (AT&T; Samaria, Harter 1994).

    Two of each person's ten photographs are the test pool, the same for every seed.

    Args:
        side: images are resized to side x side pixels, as the GAN paper does with 64.
    """

    SIZES = {"owner": 160, "attacker": 80, "public": 40, "calibration": 40, "test": 80}

    def __init__(self, *, sizes: Sizes | None = None, side: Count = 64) -> None:
        super().__init__(sizes=sizes)
        self.side = side

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        images, persons = _read(file_in_root("att_faces", root, FILE, REMEDY))
        x = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True).clamp(0, 1)
        everything = Split(x, persons)
        order = balanced_order(persons, generator(0, "att_faces.pools"))
        train = PERSONS * (SHOTS - TEST_SHOTS)
        return everything[order[:train]], everything[order[train:]], PERSONS


def _read(file: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (400, 1, 112, 92) in [0, 1] and persons int64 (400,) from 0, without unpickling."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            images, subject = archive["images"], archive["subject"]
    except Exception as error:  # a damaged file raises from zipfile, zlib, struct or numpy, whichever meets it first
        raise DataMissing(f"{file} could not be read as the AT&T faces ({type(error).__name__}: {error}).") from error
    if not (isinstance(images, np.ndarray) and isinstance(subject, np.ndarray)):
        raise DataMissing(f"{file} could not be read as the AT&T faces: a member is no array.")
    fits = images.ndim == 3 and len(images) == PERSONS * SHOTS and images.dtype == np.uint8 and images.size > 0
    if not fits or subject.shape != (PERSONS * SHOTS,) or set(subject.tolist()) != set(range(1, PERSONS + 1)):
        raise DataMissing(f"{file} does not hold {SHOTS} uint8 images of each of {PERSONS} persons; get it again.")
    return torch.from_numpy(images).unsqueeze(1).float() / 255, torch.from_numpy(subject.astype(np.int64)) - 1
