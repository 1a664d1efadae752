"""Variants of data sets: fewer classes, fewer pixels."""

import pytest
import torch

from benchmark.data.digits_grouped import GroupedDigits
from benchmark.data.mnist_small import SmallMNIST
from benchmark.errors import ConfigError

SIZES = {"owner": 40, "test": 20}


def test_digits_are_grouped_by_the_remainder():
    data = GroupedDigits(sizes=SIZES, classes=3).load(None, seed=0)
    assert data.num_classes == 3
    assert {*data.owner.y.tolist()} == {0, 1, 2}
    with pytest.raises(ConfigError, match=r"classes must be a whole number in \[2, 10\]"):
        GroupedDigits(sizes=SIZES, classes=1)


def test_mnist_is_averaged_down(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 30)):
        pixels = torch.arange(count * 28 * 28).remainder(251).to(torch.uint8)
        labels = torch.arange(count).remainder(10).to(torch.uint8)
        images = (2051).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        heads = (2049).to_bytes(4, "big") + count.to_bytes(4, "big")
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images + pixels.numpy().tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(heads + labels.numpy().tobytes())
    data = SmallMNIST(sizes=SIZES, download=False, side=14).load(tmp_path, seed=0)
    assert data.shape == (1, 14, 14) and data.public.x.shape == (0, 1, 14, 14)
    assert data.owner.x.min() >= 0 and data.owner.x.max() <= 1
