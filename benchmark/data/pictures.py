"""Pictures that a user brings: a folder of files for each class, or any classification set of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmark.data.base import no_root
from benchmark.data.brought import Brought, Samples, Scaled, classes_of
from benchmark.data.content import first_line, refuse_huge, visible
from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Count, Sizes

if TYPE_CHECKING:
    from PIL import Image

VERSION = 1

TESTS = ("test", "val", "valid")
"""Names of the folder of the test part; the first that is there is read."""

BY_TRAIN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
BY_SPLIT: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
BY_VAL: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "val"}}
BY_TRAINVAL: dict[str, dict[str, Any]] = {"train": {"split": "trainval"}, "test": {"split": "test"}}
IN_ONE: dict[str, dict[str, Any]] = {"train": {}}
SETS = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"), BY_TRAIN),
    **dict.fromkeys(("Country211", "DTD", "FER2013", "Flowers102", "Food101", "GTSRB", "LFWPeople"), BY_SPLIT),
    **dict.fromkeys(("PCAM", "RenderedSST2", "STL10", "StanfordCars", "SVHN"), BY_SPLIT),
    **dict.fromkeys(("CLEVRClassification", "Imagenette"), BY_VAL),
    **dict.fromkeys(("FGVCAircraft", "OxfordIIITPet"), BY_TRAINVAL),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), IN_ONE),
}
"""Classification sets of torchvision, and how each names its parts; one without a test part is cut by the suite."""
NO_DOWNLOAD = ("CLEVRClassification", "FER2013")

Channels = Literal["grey", "colour"]
MODES = {"grey": "L", "colour": "RGB"}


class ImageFolder(Brought):
    """Pictures in a folder for each class, with or without ``train/`` and ``test/`` (or ``val/``) above them.

    Args:
        path: see :class:`benchmark.data.brought.Brought`.
        size: side to which each picture is scaled, its longer side cut at both ends.
        channels: ``grey`` or ``colour``.
    """

    kind = "image"
    has_sensitive = False
    has_group = False

    def __init__(
        self,
        *,
        sizes: Sizes | None = None,
        path: str = "my_pictures",
        size: Count = 32,
        channels: Channels = "colour",
        content: str | None = None,
    ) -> None:
        super().__init__(sizes=sizes, path=path, content=content)
        self.size, self.channels = size, channels

    def samples(self, root: Path | None) -> Samples:
        place = self.found_at(root)
        if not place.is_dir():
            raise DataMissing(f"{place} is a file; dataset=folder reads a folder that holds a folder for each class.")
        tests = [place / name for name in TESTS if (place / name).is_dir()]
        parts = [place / "train", tests[0]] if (place / "train").is_dir() and tests else [place]
        listed = [_listed(part) for part in parts]
        classes = [{label for _, label in files} for files in listed]
        if unseen := sorted(classes[-1] - classes[0]):
            raise DataMissing(f"{parts[-1]} has the class {unseen[0]!r}, which {parts[0]} has not; add it there.")
        files = [pair for part in listed for pair in part]
        refuse_huge(place, len(files) * self.size**2 * len(MODES[self.channels]))
        names = [str(file) for file, _ in files]
        pixels, deep = stacked(names, lambda row: _opened(files[row][0]), self.size, self.channels)
        try:
            y, count, notes = classes_of(np.array([label for _, label in files]), "the folder of a class")
        except DataMissing as error:
            raise DataMissing(f"{place}: {error}") from None
        if deep:
            notes.append(f"{deep} pictures have 16 bits: they are divided by 65535.")
        tested = len(listed[1]) if len(listed) == 2 else None
        return Samples(Scaled(pixels, 255), y, count, tested, notes=tuple(notes))


def _listed(folder: Path) -> list[tuple[Path, str]]:
    """Return every picture below ``folder`` with the name of its class.

    Raises:
        DataMissing: there are no classes, or one has no picture.
    """
    from torchvision import datasets

    try:
        found = datasets.ImageFolder(str(folder), loader=str)
    except FileNotFoundError as error:
        inner = [entry for entry in folder.iterdir() if entry.is_dir()]
        if not inner:
            raise DataMissing(
                f"{folder} holds no folders; put the pictures of each class into one of its own."
            ) from error
        told = visible(str(error).split(" Supported")[0].rstrip("."))
        raise DataMissing(f"{folder}: {told[0].lower()}{told[1:]}; every class needs pictures.") from error
    return [(Path(file), found.classes[label]) for file, label in found.samples]


def _opened(file: Path) -> Image.Image:
    from PIL import Image

    with Image.open(file) as picture:
        picture.load()
        return picture


def stacked(
    names: Sequence[str], opened: Callable[[int], Image.Image], size: int | None, channels: Channels | None
) -> tuple[np.ndarray, int]:
    """Return pictures as bytes (n, channels, height, width), and how many had 16 bits.

    Args:
        names: of the pictures, for messages.
        opened: returns a picture by its number; they are asked for one after the other.
        size: side to which they are scaled; None leaves them as they are.
        channels: None leaves them as the first one is.

    Raises:
        DataMissing: one cannot be read, or they differ in size.
    """
    found: list[np.ndarray] = []
    deep = 0
    for row, name in enumerate(names):
        try:
            picture = opened(row)
            if picture.mode.startswith("I"):
                deep += 1
                picture = _eight_bits(picture)
            if channels is None:
                channels = "grey" if picture.mode in ("1", "L", "F") else "colour"
            array = _array(picture, size, MODES[channels])
        except Exception as error:  # Pillow raises anything on a damaged file, and on one that is too large to unpack
            told = f"{type(error).__name__}: {first_line(error)}"
            raise DataMissing(f"{name} cannot be read as a picture, {told}.") from error
        if found and array.shape != found[0].shape:
            raise DataMissing(
                f"The pictures differ in size, {found[0].shape[1:]} and {array.shape[1:]}; give dataset.size=32 or "
                "another side."
            )
        if not found:
            refuse_huge("The set", len(names) * array.nbytes)
        found.append(array)
    return np.stack(found), deep


def _eight_bits(picture: Image.Image) -> Image.Image:
    from PIL import Image

    return Image.fromarray((np.asarray(picture).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))


def _array(picture: Image.Image, size: int | None, mode: str) -> np.ndarray:
    from PIL import ImageOps

    picture = picture.convert(mode)
    if size is not None and picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size))
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


class TorchvisionSet(Brought):
    """Any classification set of torchvision, by the name of its class there.

    torchvision looks for it below the data root, checks what it downloads, and may ask for further packages (``scipy``
    for SVHN, ``h5py`` for PCAM). Sets without a test part are cut by the suite.

    Args:
        set: the name, e.g. ``SVHN``.
        size: side to which pictures are scaled, or None for sets whose pictures are all of one size.
        channels: ``grey`` or ``colour``, or None for those of the set.
        download: whether torchvision may download a missing set into the data root.
    """

    kind = "image"
    has_sensitive = False
    has_group = False

    def __init__(
        self,
        *,
        sizes: Sizes | None = None,
        set: str = "SVHN",
        size: Count | None = None,
        channels: Channels | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(sizes=sizes)
        if set not in SETS:
            close = get_close_matches(set.lower(), [name.lower() for name in SETS], n=1)
            hint = "".join(f" Did you mean {name}?" for name in SETS if name.lower() in close)
            raise ConfigError(f"dataset.set must be one of {', '.join(sorted(SETS))}, got {set!r}.{hint}")
        self.set, self.size, self.channels, self.download = set, size, channels, download

    def samples(self, root: Path | None) -> Samples:
        if root is None:
            raise no_root(f"torchvision dataset.set={self.set}")
        parts: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        channels = self.channels
        for options in SETS[self.set].values():
            part = self._part(root, options)
            own: list[int] = []

            def opened(row: int, part: Any = part, own: list[int] = own) -> Any:
                picture, label = part[row]
                own.append(int(label))
                return picture

            names = [f"Sample {row} of {self.set}" for row in range(len(part))]
            parts.append(stacked(names, opened, self.size, channels)[0])
            labels.append(np.array(own))
            channels = "grey" if parts[0].shape[1] == 1 else "colour"
        y, classes, notes = classes_of(np.concatenate(labels), f"the class of {self.set}")
        tested = len(labels[1]) if len(labels) == 2 else None
        return Samples(Scaled(np.concatenate(parts), 255), y, classes, tested, notes=tuple(notes))

    def _part(self, root: Path, options: dict[str, Any]) -> Any:
        from torchvision import datasets

        allowed = {} if self.set in NO_DOWNLOAD else {"download": self.download}
        try:
            return getattr(datasets, self.set)(str(root), **options, **allowed)
        except Exception as error:  # down to bare asserts
            raise self._missing(root, error) from error

    def _missing(self, root: Path, error: Exception) -> DataMissing:
        told = f"{type(error).__name__}: {first_line(error)}"
        if self.download:
            return DataMissing(f"{self.set} could not be downloaded into {root} or read there: {told}.")
        return DataMissing(
            f"{self.set} is not in the data root {root}, or is damaged: {told}. Put it there as torchvision does, name "
            "another folder with data.root=PATH or GAUNTLET_DATA, or let it be fetched with dataset.download=true."
        )
