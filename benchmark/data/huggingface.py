"""A data set of the library ``datasets``: one of the hub, or one that was saved to a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.arrays import shaped
from benchmark.data.brought import Brought, Samples, Scaled, classes_of, joined, scaled
from benchmark.data.content import first_line
from benchmark.data.pictures import Channels, stacked
from benchmark.data.table_file import TableFile, nearest
from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Count, Sizes

VERSION = 1

TESTS = ("test", "validation")
OFFLINE = "HF_HUB_OFFLINE"


class HuggingFace(Brought):
    """Samples of a ``train`` split, and of a ``test`` or ``validation`` split if there is one.

    A column of pictures or of arrays of numbers is read by itself; without one, all columns make a table, as in
    :class:`benchmark.data.table_file.TableFile`. Code that comes with a data set is never run.

    Args:
        path: of a folder that ``save_to_disk`` wrote, or of one with data files that the library knows.
        hub: name of a data set on the hub, e.g. ``ylecun/mnist``, in place of ``path``.
        subset: one of its configurations.
        revision: commit on the hub, without which a later cell may find other data.
        x: the column of pictures or arrays; None takes the only one, or else makes a table.
        label: the column of the class.
        size, channels: of pictures; None leaves them as they are.
        download: whether what is not on this machine may be fetched.
    """

    def __init__(
        self,
        *,
        sizes: Sizes | None = None,
        path: str | None = None,
        hub: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        x: str | None = None,
        label: str = "label",
        size: Count | None = None,
        channels: Channels | None = None,
        download: bool = False,
        content: str | None = None,
    ) -> None:
        super().__init__(sizes=sizes, path=path or "", content=content)
        self.hub, self.subset, self.revision, self.download = hub, subset, revision, download
        self.x, self.label, self.size, self.channels = x, label, size, channels

    def samples(self, root: Path | None) -> Samples:
        if bool(self.path) == bool(self.hub):
            raise ConfigError("dataset=huggingface takes either dataset.path=FOLDER or dataset.hub=NAME.")
        try:
            import datasets
        except ImportError as error:
            raise DataMissing(
                "dataset=huggingface needs the package datasets: pip install -e '.[huggingface]'."
            ) from error
        parts = self._parts(datasets, root)
        for part in parts:
            if lacking := [name for name in (self.label, self.x) if name is not None and name not in part.column_names]:
                raise ConfigError(f"There is no column {lacking[0]!r}{nearest(lacking[0], part.column_names)}")
            if len(part) == 0:
                raise DataMissing("A split has no samples; bring at least some.")
        tested = len(parts[1]) if len(parts) == 2 else None
        pictures = [name for name, kind in parts[0].features.items() if isinstance(kind, datasets.Image)]
        x = self.x or (pictures[0] if len(pictures) == 1 else None)
        if x is None:
            import pandas as pd

            frame = pd.concat([part.to_pandas() for part in parts], ignore_index=True)
            return TableFile(label=self.label).of_frame(frame, tested)
        y, classes, notes = classes_of(
            np.concatenate([np.asarray(part[self.label][:]) for part in parts]), f"the column {self.label!r}"
        )
        if x in pictures:
            pixels = self._pixels(parts, x)
            return Samples(Scaled(pixels, 255), y, classes, tested, notes=tuple(notes))
        arrays = [_array(part, x) for part in parts]
        values, image, moved = shaped(arrays[0] if len(arrays) == 1 else joined(arrays[0], arrays[1], (x, x)), None)
        features, changed = scaled(values, x, image=image)
        return Samples(features, y, classes, tested, notes=(*moved, *changed, *notes))

    def _parts(self, datasets: Any, root: Path | None) -> list[Any]:
        """Return the training split, and the test split where there is one."""
        try:
            with nullcontext() if self.download else _offline(datasets):
                found = self._local(datasets, root) if self.path else self._of_hub(datasets)
        except DataMissing:
            raise
        except Exception as error:  # the library raises many kinds
            told = f"{type(error).__name__}: {first_line(error)}"
            hint = (
                ""
                if self.download or self.path
                else " What is not on this machine is fetched with dataset.download=true."
            )
            raise DataMissing(f"{self.path or self.hub} cannot be read as a data set, {told}.{hint}") from error
        if not hasattr(found, "keys"):
            return [found]
        if "train" not in found:
            raise DataMissing(f"{self.path or self.hub} has no split train; there is {', '.join(map(str, found))}.")
        return [found["train"], *[found[name] for name in TESTS if name in found][:1]]

    def _local(self, datasets: Any, root: Path | None) -> Any:
        place = self.found_at(root)
        saved = (place / "dataset_info.json").is_file() or (place / "dataset_dict.json").is_file()
        return datasets.load_from_disk(str(place)) if saved else datasets.load_dataset(str(place))

    def _of_hub(self, datasets: Any) -> Any:
        return datasets.load_dataset(self.hub, self.subset, revision=self.revision)

    def _pixels(self, parts: Sequence[Any], x: str) -> np.ndarray:
        found: list[np.ndarray] = []
        channels = self.channels
        for part in parts:
            names = [f"Sample {row} of {self.path or self.hub}" for row in range(len(part))]

            def opened(row: int, part: Any = part) -> Any:
                return part[row][x]

            found.append(stacked(names, opened, self.size, channels)[0])
            channels = "grey" if found[0].shape[1] == 1 else "colour"
        return found[0] if len(found) == 1 else joined(found[0], found[1], (x, x))


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Keep the library, and the client of the hub that it uses, from asking the network."""
    places = [place for place in (datasets.config, sys.modules.get("huggingface_hub.constants")) if place is not None]
    before = [getattr(place, OFFLINE) for place in places]
    try:
        for place in places:
            setattr(place, OFFLINE, True)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, OFFLINE, value)


def _array(part: Any, x: str) -> np.ndarray:
    try:
        return np.asarray(part[x][:])
    except ValueError as error:
        raise DataMissing(f"The arrays of the column {x!r} differ in shape; make them alike.") from error
