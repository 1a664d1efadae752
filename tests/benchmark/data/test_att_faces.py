import os
from pathlib import Path

import numpy as np
import pytest

from benchmark.data.att_faces import ATTFaces
from benchmark.errors import DataMissing

SIZES = {"owner": 160, "attacker": 80, "public": 40, "calibration": 40, "test": 80}


def write(root: Path, count: int = 400) -> Path:
    folder = root / "att_faces"
    folder.mkdir()
    subject = np.repeat(np.arange(1, 41), 10)[:count]
    images = np.broadcast_to(subject[:, None, None].astype(np.uint8), (count, 112, 92))
    np.savez(folder / "att_faces.npz", images=images, subject=subject)
    return folder / "att_faces.npz"


def test_every_person_is_in_every_split(tmp_path):
    write(tmp_path)
    data = ATTFaces(sizes=SIZES, side=16).load(tmp_path, 0)
    assert data.shape == (1, 16, 16) and data.num_classes == 40
    assert data.owner.y.bincount().tolist() == [4] * 40
    assert data.test.y.bincount().tolist() == [2] * 40
    assert ((data.owner.x.mean(dim=(1, 2, 3)) * 255).round() == data.owner.y + 1).all()


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(DataMissing, match=r"att_faces.npz, where there is no file.*GAUNTLET_DATA"):
        ATTFaces(sizes=SIZES, side=16).load(tmp_path, 0)
    file = write(tmp_path, count=390)
    with pytest.raises(DataMissing, match="does not hold 10 uint8 images of each of 40 persons"):
        ATTFaces(sizes=SIZES, side=16).load(tmp_path, 0)
    file.write_bytes(b"nothing")
    with pytest.raises(DataMissing, match="could not be read"):
        ATTFaces(sizes=SIZES, side=16).load(tmp_path, 0)


def test_the_real_faces():
    root = os.environ.get("GAUNTLET_DATA")
    if root is None or not (Path(root) / "att_faces").is_dir():
        pytest.skip("the AT&T faces are not there; set GAUNTLET_DATA to a folder that holds att_faces/")
    data = ATTFaces(sizes=SIZES, side=64).load(Path(root), 0)
    assert data.shape == (1, 64, 64)
    assert 0.3 < data.owner.x.mean() < 0.6
