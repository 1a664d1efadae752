"""User-provided images: one ``.npz`` file with four arrays."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import torch
from torch import Tensor

from benchmark.data.base import Source, Split, no_root
from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Sizes

VERSION = 1

ARRAYS = ("train_x", "train_y", "test_x", "test_y")
CHANNELS = 4
"""An image with more channels than these is taken for one whose channels come last, if its width is as small."""


class Npz(Source):
    """Images from an ``.npz`` file, which is never unpickled.

    The arrays are ``train_x`` and ``test_x``, (n, channels, height, width) or (n, height, width), uint8 or float in
    [0, 1]; and ``train_y`` and ``test_y``, integers (n,) from 0 up. Labels with gaps are numbered 0 to classes - 1 in
    their order, which a line tells. Other arrays are ignored.

    Args:
        path: of the file, relative to the data root: an absolute path would make a cell's key differ by machine.
        sha256: required hex digest of the file, or None for any.
    """

    SIZES = {"owner": 1000, "attacker": 500, "public": 125, "calibration": 125, "test": None}

    def __init__(self, *, sizes: Sizes | None = None, path: str, sha256: str | None = None) -> None:
        super().__init__(sizes=sizes)
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts:
            raise ConfigError(
                f"dataset.path must be relative to the data root (data.root or GAUNTLET_DATA), got {path!r}."
            )
        self.path, self.sha256 = relative, sha256

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        if root is None:
            raise no_root(f"npz (dataset.path={self.path})")
        file = root / self.path
        if not _is_file(file):
            raise DataMissing(
                f"dataset.path={self.path} is expected at {file}, where there is no file. Put it there, or name "
                f"another folder with data.root=PATH or GAUNTLET_DATA; it must hold the arrays {', '.join(ARRAYS)}."
            )
        if self.sha256 is not None and _sha256(file) != self.sha256:
            raise DataMissing(f"{file} is not the file that dataset.sha256 names; get it again or correct the digest.")
        arrays = _read(file)
        splits = {part: self._split(file, arrays, part) for part in ("train", "test")}
        train, test = splits["train"], splits["test"]
        if train.x.shape[1:] != test.x.shape[1:]:
            shapes = tuple(train.x.shape[1:]), tuple(test.x.shape[1:])
            raise _invalid(file, f"train_x holds samples of {shapes[0]}, test_x of {shapes[1]}")
        classes = _classes(file, train.y, test.y)
        _refuse_senseless(file, train.x, test.x)
        train, test = (replace(split, y=torch.searchsorted(classes, split.y)) for split in (train, test))
        return train, test, len(classes)

    @staticmethod
    def _split(file: Path, arrays: Mapping[str, np.ndarray], part: str) -> Split:
        labels = arrays[f"{part}_y"]
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or len(labels) == 0:
            raise _invalid(file, f"{part}_y must be a list of integers, it is {labels.dtype} {labels.shape}")
        if labels.min() < 0:
            raise _invalid(file, f"{part}_y has the label {labels.min()}; labels are numbered from 0 up")
        images = _images(file, arrays[f"{part}_x"], f"{part}_x")
        if len(images) != len(labels):
            raise _invalid(file, f"{part}_x holds {len(images)} samples, {part}_y {len(labels)}")
        return Split(images, torch.as_tensor(labels.astype(np.int64)))


def _classes(file: Path, train: Tensor, test: Tensor) -> Tensor:
    """Return the labels (classes,) that occur in training, in ascending order.

    Raises:
        DataMissing: there is one class only, or the test part has a class that the training part lacks.
    """
    classes = train.unique()
    unseen = [label for label in test.unique().tolist() if label not in set(classes.tolist())]
    if unseen:
        raise _invalid(file, f"test_y has the label {unseen[0]}, which no sample of train_y has")
    if len(classes) < 2:
        raise _invalid(file, f"all samples have the label {classes.item()}, so there is nothing to tell apart")
    if int(classes[-1]) >= len(classes):
        told = f"{file}: the labels {_listed(classes.tolist())} are numbered 0 to {len(classes) - 1} in this order."
        warnings.warn(told, stacklevel=2)
    return classes


def _listed(labels: list[int]) -> str:
    """Return ``0, 5, 9``, or the first three and the last of many."""
    shown = labels if len(labels) <= 5 else [*labels[:3], "...", labels[-1]]
    return ", ".join(map(str, shown))


def _refuse_senseless(file: Path, train: Tensor, test: Tensor) -> None:
    """Raise DataMissing where the samples of a part are all alike, or all test samples are training samples."""
    for name, x in (("train_x", train), ("test_x", test)):
        if len(x) > 1 and bool((x == x[:1]).all()):
            raise _invalid(file, f"all samples of {name} are the same")
    known = {row.numpy().tobytes() for row in train}
    if train.dtype == test.dtype and all(row.numpy().tobytes() in known for row in test):
        raise _invalid(file, "every sample of test_x is one of train_x, so nothing can be tested")


def _refuse_bomb(file: Path, stream: IO[bytes]) -> None:
    """Raise DataMissing where the arrays would take more than half of this machine's memory when unpacked."""
    with zipfile.ZipFile(stream) as archive:
        size = sum(entry.file_size for entry in archive.infolist() if entry.filename.removesuffix(".npy") in ARRAYS)
    if size > _memory() / 2:
        raise _invalid(
            file,
            f"its arrays take {size / 1e9:.1f} GB unpacked, more than half of this machine's memory; make it smaller",
        )
    stream.seek(0)


def _memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, because numpy leaves a damaged file open.
        with file.open("rb") as stream:
            _refuse_bomb(file, stream)
            return _arrays(file, stream)
    except DataMissing:
        raise
    except Exception as error:  # a damaged zip raises from zipfile, zlib, struct or numpy, whichever meets it first
        raise _invalid(file, f"{type(error).__name__}: {error}") from error


def _arrays(file: Path, stream: IO[bytes]) -> dict[str, np.ndarray]:
    with np.load(stream, allow_pickle=False) as archive:
        absent = [name for name in ARRAYS if name not in archive]
        if absent:
            raise _invalid(file, f"it has no array {', '.join(absent)}")
        found = {name: archive[name] for name in ARRAYS}
    if strange := [
        name for name in ARRAYS if not isinstance(found[name], np.ndarray)
    ]:  # of those numpy gives the bytes
        raise _invalid(file, f"its member {strange[0]}.npy is no array")
    return found


def _images(file: Path, array: np.ndarray, name: str) -> Tensor:
    """Return the array as a tensor (n, channels, height, width), uint8 unchanged, floats as float32."""
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise _invalid(file, f"{name} must be (n, channels, height, width) or (n, height, width), it is {array.shape}")
    if array.shape[1] > CHANNELS >= array.shape[3]:
        raise _invalid(
            file, f"{name} is {array.shape}, channels seem to come last; transpose it to (n, channels, h, w)"
        )
    if array.size == 0:
        raise _invalid(file, f"{name} holds no pixels, it is {array.shape}")
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    if not np.issubdtype(array.dtype, np.floating):
        raise _invalid(file, f"{name} must be uint8 or float, it is {array.dtype}")
    # Written so that NaN fails too.
    if not (array.min() >= 0 and array.max() <= 1):
        raise _invalid(file, f"{name} must lie in [0, 1], it spans {array.min():g} to {array.max():g}")
    return torch.from_numpy(array.astype(np.float32, copy=False))  # in the byte order of this machine


def _invalid(file: Path, problem: str) -> DataMissing:
    return DataMissing(f"{file} is not a data set of images: {problem}.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
