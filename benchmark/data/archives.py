"""Arrays of an ``.npz`` file that a user brings, held against what the data set's file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.base import file_in_root
from benchmark.errors import DataMissing


@dataclass(frozen=True)
class Wanted:
    """Form of an array.

    Args:
        kinds: letters of the types that it may have, as in ``numpy.dtype.kind``: ``iu`` for integers.
        shape: a size, or the name of one that all arrays of the file with this name share.
        low, high: least and greatest value; numbers are finite in any case.
    """

    kinds: str
    shape: tuple[int | str, ...]
    low: float = -math.inf
    high: float = math.inf


def arrays(option: str, root: Path | None, path: str, wanted: Mapping[str, Wanted]) -> dict[str, np.ndarray]:
    """Return the wanted arrays of one file of the data root, without unpickling.

    Raises:
        DataMissing: there is no root or no such file, or it lacks an array, or one is not of its form.
    """
    names = ", ".join(wanted)
    remedy = (
        f": an archive of the arrays {names}. Put it there, or name another folder with data.root=PATH or "
        "GAUNTLET_DATA."
    )
    file = file_in_root(option, root, path, remedy)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = {name: archive[name] for name in wanted}
    except Exception as error:  # a damaged zip raises from zipfile, zlib, struct or numpy, whichever meets it first
        raise DataMissing(f"{file} does not hold the arrays {names}; get it again.") from error
    sizes: dict[str, int] = {}
    for name, form in wanted.items():
        if fault := _fault(found[name], form, sizes):
            raise DataMissing(f"{file} is not the file of {option}: {name} {fault}. Get it again.")
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in found.items()}


def _fault(array: np.ndarray | bytes, form: Wanted, sizes: dict[str, int]) -> str | None:
    """Return what is wrong with ``array``; ``sizes`` are those that have a name, to which its own are added."""
    if not isinstance(array, np.ndarray):  # of a member that is none, numpy gives the bytes
        return "is no array"
    if array.dtype.kind not in form.kinds:
        return f"is of the type {array.dtype}"
    if array.ndim != len(form.shape):
        return f"has the shape {array.shape}"
    for size, called in zip(array.shape, form.shape, strict=True):
        if size != (sizes.setdefault(called, size) if isinstance(called, str) else called):
            return f"has the shape {array.shape}"
    if array.dtype.kind not in "biuf":
        return None
    if array.size == 0:
        return "is empty"
    low, high = array.min(), array.max()  # NaN if one of them is
    if not (form.low <= low and high <= form.high and math.isfinite(low) and math.isfinite(high)):
        return f"spans {low:g} to {high:g}"
    return None
