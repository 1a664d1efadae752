"""torchvision's sets: made-up files in the true layout, real data where they are, and the errors."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data.npz import Npz
from benchmark.data.torchvision_sets import CIFAR10, MNIST, Digit17, FashionMNIST
from benchmark.data.whole_training_sets import WholeMNIST
from benchmark.errors import ConfigError, DataMissing

SIZES = {"owner": 20, "attacker": 10, "public": 5, "calibration": 5, "test": 20}
SETS = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10}


@pytest.fixture
def real() -> Path:
    root = os.environ.get("GAUNTLET_DATA")
    if not root:
        pytest.skip("GAUNTLET_DATA names no folder with real data")
    return Path(root)


def idx(array: np.ndarray) -> bytes:
    """Return the idx format of MNIST: magic number with type uint8 and rank, big-endian sizes, bytes."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_mnist(root: Path, folder: str = "MNIST") -> np.ndarray:
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))
    return images


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_are_read_and_scaled(tmp_path, name):
    source = SETS[name](sizes=SIZES, download=False)
    images = write_mnist(tmp_path, source.folder.split("/")[0])
    data = source.load(tmp_path, 0)
    assert data.shape == (1, 28, 28) and data.num_classes == 10 and data.owner.x.dtype == torch.float32
    seen = {(image * 255).round().to(torch.uint8).numpy().tobytes() for image in data.test.x}
    assert seen == {image.tobytes() for image in images}


def test_digit_1_7_keeps_two_digits(tmp_path):
    images = write_mnist(tmp_path)
    data = Digit17(sizes={"owner": 12, "test": None}, download=False).load(tmp_path, 0)
    assert data.num_classes == 2 and data.owner.y.tolist().count(1) == 6 and len(data.test) == 4
    sevens = {images[k].tobytes() for k in (7, 17)}
    assert {(x * 255).round().to(torch.uint8).numpy().tobytes() for x in data.test.x[data.test.y == 1]} == sevens


def test_cifar_channels_come_first(tmp_path, monkeypatch):
    from torchvision import datasets

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    entry = {"data": pixels.reshape(20, -1), "labels": [i % 10 for i in range(20)]}
    for name, _ in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list):
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *arguments: True)
    data = CIFAR10(sizes=SIZES, download=False).load(tmp_path, 0)
    assert data.shape == (3, 32, 32)
    seen = {(image * 255).round().to(torch.uint8).numpy().tobytes() for image in data.test.x}
    assert seen == {image.tobytes() for image in pixels}


@pytest.mark.parametrize("name", SETS)
def test_missing_data_say_where_they_are_expected_and_how_to_get_them(tmp_path, name):
    source = SETS[name](sizes=SIZES, download=False)
    with pytest.raises(
        DataMissing, match=rf"{source.folder}, which is not there.*GAUNTLET_DATA.*dataset.download=true"
    ):
        source.load(tmp_path, 0)
    with pytest.raises(DataMissing, match=rf"dataset={name} .*data\.root=PATH or GAUNTLET_DATA.*dataset=digits"):
        source.load(None, 0)


@pytest.mark.parametrize("damage", [lambda raw: raw[:1000], lambda raw: b"", lambda raw: b"<html>" * 99])
def test_damaged_files_are_a_data_error(tmp_path, damage):
    write_mnist(tmp_path)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataMissing, match="MNIST/raw, which is damaged"):
        MNIST(sizes=SIZES, download=False).load(tmp_path, 0)


def test_labels_and_images_must_be_as_many(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(idx(np.zeros(59, dtype=np.uint8)))
    with pytest.raises(DataMissing, match="60 images but 59 labels"):
        MNIST(sizes=SIZES, download=False).load(tmp_path, 0)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_data(real, name):
    source = SETS[name](sizes=SIZES | {"test": None}, download=False)
    train, test, _ = source.pools(real)
    assert (len(train), len(test)) == (60_000, 10_000)
    # The mean pixels that everybody normalises these two sets with.
    assert (train.x.float() / 255).mean().item() == pytest.approx(
        {"mnist": 0.1307, "fashion_mnist": 0.2860}[name], abs=1e-4
    )


def test_the_cifar_subset(real):
    source = Npz(sizes=SIZES, path="cifar10/cifar10_subset.npz", sha256=None)
    train, test, classes = source.pools(real)
    assert (len(train), len(test), classes, tuple(train.x.shape[1:])) == (20_000, 9_966, 10, (3, 32, 32))


def test_the_owner_of_a_whole_training_part_has_it_all_and_nobody_else_any(tmp_path):
    images = write_mnist(tmp_path)  # of the test part
    sizes = {"owner": 60, "attacker": 4, "public": 2, "calibration": 5, "test": None}
    data = WholeMNIST(sizes=sizes).load(tmp_path, 0)
    assert [len(data.owner), len(data.attacker), len(data.public), len(data.calibration), len(data.test)] == [
        *(60, 4, 2, 5, 9)
    ]
    others = [*data.attacker.x, *data.public.x, *data.calibration.x, *data.test.x]
    seen = [(image * 255).round().to(torch.uint8).numpy().tobytes() for image in others]
    assert sorted(seen) == sorted(image.tobytes() for image in images)
    assert not {image.numpy().tobytes() for image in data.owner.x} & {image.numpy().tobytes() for image in others}
    with pytest.raises(ConfigError, match="the training part holds 60 and the test part 20"):
        WholeMNIST(sizes={"owner": 61, "test": None}).load(tmp_path, 0)
