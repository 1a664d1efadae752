"""The embedded digits, and variants of sets: fewer classes, fewer pixels."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data.att_faces import ATTFaces
from benchmark.data.digits import Digits
from benchmark.data.digits_grouped import GroupedDigits
from benchmark.data.mnist_small import SmallMNIST
from benchmark.errors import ConfigError, DataMissing

SIZES = {"owner": 700, "attacker": 300, "public": 100, "calibration": 200, "test": 497}
FEW = {"owner": 40, "test": 20}


def test_pools_are_fixed_balanced_and_complete():
    train, test, classes = Digits(sizes=SIZES).pools(None)
    assert (len(train), len(test), classes) == (1300, 497, 10)
    assert train.x.shape[1:] == (1, 8, 8) and train.x.dtype == torch.float32
    assert (train.x.min().item(), train.x.max().item()) == (0.0, 1.0)
    # The rarest of the ten classes has 174 of 1,797 samples, the most frequent 183.
    assert all(125 <= count <= 133 for count in train.y.bincount())


def test_the_seed_moves_roles_but_not_the_test_pool():
    one, two = (Digits(sizes=SIZES).load(None, seed) for seed in (0, 1))
    assert not torch.equal(one.owner.x, two.owner.x)

    def rows(x):
        return sorted(map(tuple, x.flatten(1).tolist()))

    assert rows(one.test.x) == rows(two.test.x)
    assert one.shape == (1, 8, 8) and one.name == "digits"
    # 1,300 samples are all used: every class has its share of every role.
    assert (one.owner.y.bincount(minlength=10) >= 65).all() and (one.public.y.bincount(minlength=10) >= 8).all()


def test_digits_are_grouped_by_the_remainder():
    data = GroupedDigits(sizes=FEW, classes=3).load(None, seed=0)
    assert data.num_classes == 3
    assert {*data.owner.y.tolist()} == {0, 1, 2}
    with pytest.raises(ConfigError, match=r"classes must be a whole number in \[2, 10\]"):
        GroupedDigits(sizes=FEW, classes=1)


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
    data = SmallMNIST(sizes=FEW, download=False, side=14).load(tmp_path, seed=0)
    assert data.shape == (1, 14, 14) and data.public.x.shape == (0, 1, 14, 14)
    assert data.training_pool is not None and data.training_pool().x.shape == (60, 1, 14, 14)
    assert data.owner.x.min() >= 0 and data.owner.x.max() <= 1


# -- att_faces
FACES = {"owner": 160, "attacker": 80, "public": 40, "calibration": 40, "test": 80}


def write(root: Path, count: int = 400) -> Path:
    folder = root / "att_faces"
    folder.mkdir()
    subject = np.repeat(np.arange(1, 41), 10)[:count]
    images = np.broadcast_to(subject[:, None, None].astype(np.uint8), (count, 112, 92))
    np.savez(folder / "att_faces.npz", images=images, subject=subject)
    return folder / "att_faces.npz"


def test_every_person_is_in_every_split(tmp_path):
    write(tmp_path)
    data = ATTFaces(sizes=FACES, side=16).load(tmp_path, 0)
    assert data.shape == (1, 16, 16) and data.num_classes == 40
    assert data.owner.y.bincount().tolist() == [4] * 40
    assert data.test.y.bincount().tolist() == [2] * 40
    assert ((data.owner.x.mean(dim=(1, 2, 3)) * 255).round() == data.owner.y + 1).all()


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(DataMissing, match=r"att_faces.npz, where there is no file.*GAUNTLET_DATA"):
        ATTFaces(sizes=FACES, side=16).load(tmp_path, 0)
    file = write(tmp_path, count=390)
    with pytest.raises(DataMissing, match="does not hold 10 uint8 images of each of 40 persons"):
        ATTFaces(sizes=FACES, side=16).load(tmp_path, 0)
    file.write_bytes(b"nothing")
    with pytest.raises(DataMissing, match="could not be read"):
        ATTFaces(sizes=FACES, side=16).load(tmp_path, 0)


def test_the_real_faces():
    root = os.environ.get("GAUNTLET_DATA")
    if root is None or not (Path(root) / "att_faces").is_dir():
        pytest.skip("the AT&T faces are not there; set GAUNTLET_DATA to a folder that holds att_faces/")
    data = ATTFaces(sizes=FACES, side=64).load(Path(root), 0)
    assert data.shape == (1, 64, 64)
    assert 0.3 < data.owner.x.mean() < 0.6
