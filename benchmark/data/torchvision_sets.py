"""MNIST, Fashion-MNIST and CIFAR-10, read (and on request downloaded) by torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from benchmark.data.base import Source, Split, no_root
from benchmark.errors import DataMissing
from benchmark.parameters import Sizes

VERSION = 1


class TorchvisionSource(Source):
    """Base of sets that torchvision keeps under ``<root>/<folder>``.

    Args:
        download: whether torchvision may download a missing set into the root; it checks the archives' MD5.
    """

    option: ClassVar[str]
    loader: ClassVar[str]
    folder: ClassVar[str]
    num_classes: ClassVar[int] = 10

    def __init__(self, *, sizes: Sizes | None = None, download: bool = False) -> None:
        super().__init__(sizes=sizes)
        self.download = download

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        if root is None:
            raise no_root(self.option)
        return self._part(root, train=True), self._part(root, train=False), self.num_classes

    def _part(self, root: Path, *, train: bool) -> Split:
        from torchvision import datasets

        try:
            part = getattr(datasets, self.loader)(root, train=train, download=self.download)
        except Exception as error:  # torchvision's readers raise anything on a damaged file, down to bare asserts
            raise self._missing(root, error) from error
        # MNIST-like sets hold a uint8 tensor (n, h, w), CIFAR a uint8 array (n, h, w, channels).
        images = part.data if torch.is_tensor(part.data) else torch.from_numpy(np.ascontiguousarray(part.data))
        if len(images) != len(part.targets):
            raise self._missing(root, ValueError(f"{len(images)} images but {len(part.targets)} labels"))
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
        return Split(images, torch.as_tensor(part.targets, dtype=torch.int64))

    def _missing(self, root: Path, error: Exception) -> DataMissing:
        place = root / self.folder
        if self.download:
            return DataMissing(f"dataset={self.option} could not be downloaded into {place} or read there: {error}")
        fault = f"is damaged ({type(error).__name__}: {error})" if place.exists() else "is not there"
        return DataMissing(
            f"dataset={self.option} is expected in {place}, which {fault}. Put it there in torchvision's layout, "
            "name another folder with data.root=PATH or GAUNTLET_DATA, or let it be fetched with dataset.download=true."
        )


class MNIST(TorchvisionSource):
    """70,000 handwritten digits, 1x28x28 (LeCun, Cortes, Burges)."""

    SIZES = {"owner": 40000, "attacker": 15000, "public": 2500, "calibration": 2500, "test": None}

    option, loader, folder = "mnist", "MNIST", "MNIST/raw"


class Digit17(MNIST):
    """Ones and sevens of MNIST, SafeNet's binary task Digit-1/7: class 0 is the digit 1, class 1 the digit 7."""

    SIZES = {"owner": 10000, "attacker": 2000, "public": 500, "calibration": 500, "test": None}

    option, num_classes = "digit17", 2

    def _part(self, root: Path, *, train: bool) -> Split:
        everything = super()._part(root, train=train)
        kept = everything[(everything.y == 1) | (everything.y == 7)]
        return Split(kept.x, (kept.y == 7).long())


class FashionMNIST(TorchvisionSource):
    """70,000 pictures of clothes, 1x28x28 (Xiao, Rasul, Vollgraf 2017)."""

    SIZES = {"owner": 40000, "attacker": 15000, "public": 2500, "calibration": 2500, "test": None}

    option, loader, folder = "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"


class CIFAR10(TorchvisionSource):
    """60,000 colour photographs, 3x32x32 (Krizhevsky 2009)."""

    SIZES = {"owner": 35000, "attacker": 10000, "public": 2500, "calibration": 2500, "test": None}

    option, loader, folder = "cifar10", "CIFAR10", "cifar-10-batches-py"
