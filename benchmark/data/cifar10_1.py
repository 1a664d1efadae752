"""CIFAR-10 with CIFAR-10.1, a newly collected test set, as the shifted population."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmark.data.base import Split
from benchmark.data.torchvision_sets import CIFAR10
from benchmark.errors import DataMissing

VERSION = 1

FILES = ("cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy")


class Cifar10v1(CIFAR10):
    """CIFAR-10, with the 2,000 images of CIFAR-10.1 v6 (Recht et al. 2018) as its shifted population.

    The two arrays are expected as their authors publish them, in ``<root>/cifar10.1/``: uint8 (2000, 32, 32, 3) and
    integers (2000,).
    """

    option = "cifar10_1"
    shift = "natural"

    def shifted_pool(self, root: Path | None) -> Split:
        assert root is not None, "pools checks the root"
        folder = root / "cifar10.1"
        try:
            images, labels = (np.load(folder / name, allow_pickle=False) for name in FILES)
            if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or labels.shape != images.shape[:1]:
                raise ValueError(f"images are {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}")
            if labels.dtype.kind not in "iu" or not len(labels) or not 0 <= labels.min() <= labels.max() <= 9:
                raise ValueError("labels are not integers from 0 to 9")
        except (OSError, ValueError, EOFError) as error:
            raise DataMissing(
                f"dataset={self.option} also needs {' and '.join(FILES)} in {folder}: {error}. "
                "Put them there; the CIFAR-10.1 repository publishes them."
            ) from error
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        return Split(x, torch.as_tensor(labels.astype(np.int64)))
