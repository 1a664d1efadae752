"""MNIST, with USPS, digits in other handwriting, as the shifted population."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.data.torchvision_sets import MNIST
from benchmark.errors import DataMissing

VERSION = 1


class MnistUsps(MNIST):
    """MNIST, with the test part of USPS (Hull 1994; 16x16, resized bilinearly to 28x28) as its shifted population."""

    option = "mnist_usps"
    shift = "natural"

    def shifted_pool(self, root: Path | None) -> Split:
        from torchvision import datasets

        assert root is not None, "pools checks the root"
        place = root / "USPS"
        try:
            part = datasets.USPS(place, train=False, download=self.download)
        except Exception as error:  # torchvision's reader raises anything on a damaged file
            raise DataMissing(
                f"dataset={self.option} also needs USPS, expected in {place} ({type(error).__name__}: {error}). Put it "
                "there in torchvision's layout or let it be fetched with dataset.download=true."
            ) from error
        images = torch.from_numpy(part.data).float().unsqueeze(1) / 255
        resized = F.interpolate(images, size=(28, 28), mode="bilinear", align_corners=False)
        return Split(resized.clamp(0, 1), torch.as_tensor(part.targets, dtype=torch.int64))
