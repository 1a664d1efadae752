"""A user's arrays: images, signals or tables from ``.npz``, ``.safetensors`` or a folder of ``.npy`` files."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.data.brought import Brought, Samples, attribute, classes_of, coded, joined, scaled
from benchmark.data.content import first_line, refuse_huge, visible
from benchmark.errors import DataMissing
from benchmark.parameters import Sizes

VERSION = 1

NAMES = ("x", "y", "sensitive", "group")
PARTS = ("train", "test")
FORMS = "x and y, or train_x, train_y, test_x and test_y; optional are sensitive and group"
CHANNELS = 4
"""An image with at most as many values along its last axis, and more along its first, has its channels last."""

Kind = Literal["image", "table", "signal"]


class Arrays(Brought):
    """Arrays ``x`` and ``y``, or ``train_x``, ``train_y``, ``test_x``, ``test_y``; optional ``sensitive``, ``group``.

    ``x_train`` and capitals are understood as well; other arrays are ignored, nothing is unpickled. ``x`` holds

    * images, (n, channels, height, width), (n, height, width, channels) or (n, height, width);
    * tables, (n, features);
    * signals, (n, channels, steps) or (n, steps, channels): the longer axis is time.

    Three axes are taken for images if the numbers are bytes or 16 bits, or if the last two axes are equal. Bytes are
    divided by 255, numbers in [0, 1] are kept, others are scaled, which the record tells. ``y`` and ``sensitive`` hold
    whole numbers or texts, (n,); ``group`` says from which person or recording a sample comes, in order of time.

    Args:
        path: see :class:`benchmark.data.brought.Brought`; of a folder, it holds ``x.npy`` and ``y.npy`` and so on.
        kind: what the samples are, or None to tell by their shape.
    """

    def __init__(
        self,
        *,
        sizes: Sizes | None = None,
        path: str = "my_data.npz",
        kind: Kind | None = None,
        content: str | None = None,
    ) -> None:
        super().__init__(sizes=sizes, path=path, content=content)
        self.wanted = kind

    def samples(self, root: Path | None) -> Samples:
        place = self.found_at(root)
        try:
            return assembled(read(place), self.wanted)
        except DataMissing as error:
            raise error if str(place) in str(error) else DataMissing(f"{place}: {error}") from None


def assembled(arrays: Mapping[str, np.ndarray], wanted: Kind | None) -> Samples:
    """Return the samples that the arrays hold.

    Raises:
        DataMissing: an array is missing, or is not what it should be.
    """
    parts = PARTS if any(f"{part}_x" in arrays for part in PARTS) else ("",)
    if lacking := [name for name in (_called(p, n) for p in parts for n in ("x", "y")) if name not in arrays]:
        raise DataMissing(f"there is no array {' or '.join(lacking)}; wanted are {FORMS}.")
    found: dict[str, np.ndarray] = {}
    for name in NAMES:
        names = [_called(part, name) for part in parts]
        if there := [part for part in names if part in arrays]:
            if len(there) < len(names):
                raise DataMissing(f"there is {there[0]}, but no {', '.join(set(names) - set(there))}.")
            found[name] = (
                arrays[names[0]]
                if len(names) == 1
                else joined(arrays[names[0]], arrays[names[1]], (names[0], names[1]))
            )
            for part, own in zip(parts, names, strict=True):
                samples = arrays[_called(part, "x")]
                if samples.ndim and arrays[own].ndim and len(arrays[own]) != len(samples):
                    raise DataMissing(f"{_called(part, 'x')} holds {len(samples)} samples, {own} {len(arrays[own])}.")
    x, image, notes = shaped(found["x"], wanted)
    features, changed = scaled(x, "x", image=image)
    y, classes, numbered = classes_of(found["y"], "y")
    notes += changed + numbered
    sensitive = group = None
    if "sensitive" in found:
        sensitive, numbered = attribute(found["sensitive"], "sensitive")
        notes += numbered
    if "group" in found:
        group = coded(found["group"], "group")[0]
    tested = None if len(parts) == 1 else len(arrays["test_y"])
    if tested is not None:
        _refuse_copies(arrays["train_x"], arrays["test_x"])
    return Samples(features, y, classes, tested, sensitive, group, tuple(notes))


def _called(part: str, name: str) -> str:
    return f"{part}_{name}" if part else name


def shaped(x: np.ndarray, wanted: Kind | None) -> tuple[np.ndarray, bool, list[str]]:
    """Return ``x`` with its channels first, whether it holds images, and a sentence where an axis was moved or guessed.

    Raises:
        DataMissing: no such samples have this shape.
    """
    ranks = {"table": (2,), "signal": (2, 3), "image": (3, 4)}
    kind: str | None = wanted
    notes = []
    if kind is None:
        kind = {2: "table", 4: "image"}.get(x.ndim)
        if x.ndim == 3:
            pixels = x.dtype in (np.uint8, np.uint16) or x.shape[1] == x.shape[2]
            kind = "image" if pixels else "signal"
            notes.append(f"The shape of x, {x.shape}, is taken for that of {kind}s.")
    if kind is None or x.ndim not in ranks[kind]:
        raise DataMissing(
            f"x has the shape {x.shape}; {kind or 'sample'}s are (n, features) for tables, (n, channels, steps) for "
            "signals, (n, channels, height, width) or (n, height, width) for images."
        )
    if kind == "image":
        x = x[:, None] if x.ndim == 3 else x
        if x.shape[3] <= CHANNELS < x.shape[1]:
            notes.append(f"The last axis of x {x.shape} is taken for channels.")
            x = np.moveaxis(x, 3, 1)
        if x.shape[1] > CHANNELS and wanted is None and x.shape[1] > min(x.shape[2:]):
            raise DataMissing(
                f"x has the shape {x.shape}, in which no axis holds 1 to {CHANNELS} channels of an image."
            )
    if kind == "signal":
        x = x[:, None] if x.ndim == 2 else x
        if x.shape[1] > x.shape[2]:
            notes.append(f"The longer axis of x {x.shape} is taken for time.")
            x = np.moveaxis(x, 2, 1)
    return x, kind == "image", notes


def _refuse_copies(train: np.ndarray, test: np.ndarray) -> None:
    known = {row.tobytes() for row in train}
    if train.dtype == test.dtype and all(row.tobytes() in known for row in test):
        raise DataMissing("every sample of test_x is one of train_x, so nothing can be tested.")


# -- files ------------------------------------------------------------------------------------------------------------
def read(place: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file or folder by their names as in :data:`FORMS`, without unpickling anything.

    Raises:
        DataMissing: it cannot be read, or would take too much memory.
    """
    suffix = place.suffix.lower()
    if place.is_dir():
        reader = _folder
    elif suffix in (".npz", ".safetensors"):
        reader = _npz if suffix == ".npz" else _safetensors
    elif suffix == ".npy":
        raise DataMissing(
            f"{place} is one array, without labels; put x.npy and y.npy into a folder and give its path, dataset.path="
            f"{place.parent}."
        )
    else:
        raise DataMissing(
            f"{place} is none of .npz, .safetensors or a folder of .npy files; for .csv and .parquet use "
            "dataset=table, for pictures dataset=folder."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy on odd headers
            return _named(place, reader(place))
    except DataMissing:
        raise
    except Exception as error:  # a damaged file raises from zipfile, zlib, struct, numpy or safetensors
        if "allow_pickle" in str(error):
            raise DataMissing(
                f"{place} holds an array of objects, which is never unpickled; save numbers or texts, "
                "array.astype(float) or array.astype(str)."
            ) from error
        raise DataMissing(
            f"{place} cannot be read, {type(error).__name__}: {first_line(error)}. Write it anew."
        ) from error


def _named(place: Path, arrays: Mapping[str, object]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        short = _canonical(name)
        if not isinstance(array, np.ndarray):  # of a member that is none, numpy gives the bytes
            raise DataMissing(f"{place}: its member {visible(name)} is no array. Write it anew.")
        if short in found:
            raise DataMissing(f"{place} holds {short} twice, as {visible(name)} too; keep one of them.")
        found[short] = array
    return found


def _canonical(name: str) -> str:
    """Return the name in small letters, ``x_train`` as ``train_x``."""
    name = name.lower()
    turned = re.fullmatch(rf"({'|'.join(NAMES)})_({'|'.join(PARTS)})", name)
    return f"{turned[2]}_{turned[1]}" if turned else name


def _is_wanted(name: str) -> bool:
    return re.fullmatch(rf"(({'|'.join(PARTS)})_)?({'|'.join(NAMES)})", _canonical(name)) is not None


def _npz(place: Path) -> dict[str, object]:
    with place.open("rb") as stream:  # opened here, because numpy leaves a damaged file open
        with zipfile.ZipFile(stream) as archive:
            sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        refuse_huge(place, sum(size for name, size in sizes.items() if _is_wanted(name)))
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if _is_wanted(name)}


def _safetensors(place: Path) -> dict[str, object]:
    from safetensors import safe_open

    refuse_huge(place, place.stat().st_size)
    with safe_open(place, framework="numpy") as archive:
        return {name: archive.get_tensor(name) for name in archive.keys() if _is_wanted(name)}  # noqa: SIM118 - no mapping


def _folder(place: Path) -> dict[str, object]:
    files = [file for file in sorted(place.glob("*.npy")) if _is_wanted(file.stem)]
    refuse_huge(place, sum(file.stat().st_size for file in files))
    found: dict[str, object] = {}
    for file in files:
        with file.open("rb") as stream:
            found[file.stem] = np.load(stream, allow_pickle=False)
    return found
