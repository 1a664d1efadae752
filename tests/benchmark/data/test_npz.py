"""Bring your own arrays: what is read, and how a bad file is named."""

import hashlib
import zipfile

import numpy as np
import pytest
import torch

from benchmark.data.npz import Npz
from benchmark.errors import ConfigError, DataMissing

RNG = np.random.default_rng(0)
GOOD = {
    "train_x": RNG.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8),
    "train_y": np.arange(30) % 3,
    "test_x": RNG.integers(0, 256, (9, 3, 8, 8), dtype=np.uint8),
    "test_y": np.arange(9) % 3,
}


def source(path: str = "mine/set.npz", sha256: str | None = None) -> Npz:
    return Npz(sizes={"owner": 12, "attacker": 6, "test": None}, path=path, sha256=sha256)


def write(root, **changes):
    file = root / "mine" / "set.npz"
    file.parent.mkdir(exist_ok=True)
    np.savez(file, **{name: array for name, array in (GOOD | changes).items() if array is not None})
    return file


def test_bytes_are_scaled_and_kept_in_order(tmp_path):
    write(tmp_path)
    data = source().load(tmp_path, 0)
    assert data.shape == (3, 8, 8) and data.num_classes == 3 and len(data.test) == 9
    expected = {image.tobytes(): label for image, label in zip(GOOD["test_x"], GOOD["test_y"], strict=True)}
    for image, label in zip(data.test.x, data.test.y, strict=True):
        assert expected[(image * 255).round().to(torch.uint8).numpy().tobytes()] == label


def test_grey_floats_gain_a_channel(tmp_path):
    write(tmp_path, train_x=RNG.random((30, 8, 8)), test_x=RNG.random((9, 8, 8)))
    data = source().load(tmp_path, 0)
    assert data.shape == (1, 8, 8) and data.owner.x.dtype == torch.float32


def test_a_digest_that_fits_is_accepted_and_another_refused(tmp_path):
    digest = hashlib.sha256(write(tmp_path).read_bytes()).hexdigest()
    assert len(source(sha256=digest).load(tmp_path, 0).owner) == 12
    with pytest.raises(DataMissing, match=r"not the file that dataset\.sha256 names"):
        source(sha256="0" * 64).load(tmp_path, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_y": None}, "no array test_y"),
        ({"train_y": np.arange(29)}, "train_x holds 30 samples, train_y 29"),
        ({"train_y": np.linspace(0, 1, 30)}, "train_y must be a list of integers"),
        ({"test_y": np.full(9, -1)}, r"test_y has the label -1; labels are numbered from 0 up"),
        ({"test_y": np.full(9, 7)}, r"test_y has the label 7, which no sample of train_y has"),
        ({"train_y": np.ones(30, int), "test_y": np.ones(9, int)}, "all samples have the label 1"),
        ({"train_x": np.full((30, 3, 8, 8), 0.5)}, "all samples of train_x are the same"),
        ({"test_x": np.zeros((9, 3, 8, 8), np.uint8)}, "all samples of test_x are the same"),
        ({"test_x": GOOD["train_x"][:9]}, "every sample of test_x is one of train_x"),
        ({"train_x": GOOD["train_x"] / 1.0}, r"train_x must lie in \[0, 1\], it spans 0 to 255"),
        ({"train_x": np.full((30, 3, 8, 8), np.nan)}, r"train_x must lie in \[0, 1\]"),
        ({"train_x": GOOD["train_x"].astype(np.int32)}, "train_x must be uint8 or float"),
        ({"train_x": np.zeros((30, 3, 0, 8))}, "train_x holds no pixels"),
        ({"train_x": GOOD["train_x"].transpose(0, 2, 3, 1)}, "channels seem to come last"),
        ({"train_x": RNG.random((30, 64))}, r"train_x must be \(n, channels, height, width\)"),
        ({"test_x": RNG.random((9, 3, 9, 9))}, r"train_x holds samples of \(3, 8, 8\), test_x of \(3, 9, 9\)"),
        ({"train_y": np.array([None] * 30)}, "allow_pickle=False"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(DataMissing, match=message):
        source().load(tmp_path, 0)


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"no zip at all"])
def test_damaged_files_are_a_data_error(tmp_path, damage):
    file = write(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataMissing, match="is not a data set of images"):
        source().load(tmp_path, 0)


def test_a_missing_file_or_root_says_where_it_is_expected(tmp_path):
    with pytest.raises(DataMissing, match=r"expected at .*mine/set\.npz.*GAUNTLET_DATA.*train_x"):
        source().load(tmp_path, 0)
    with pytest.raises(DataMissing, match=r"data\.root=PATH or GAUNTLET_DATA"):
        source().load(None, 0)


@pytest.mark.parametrize("path", ["/data/set.npz", "../set.npz"])
def test_paths_that_depend_on_the_machine_are_refused(path):
    with pytest.raises(ConfigError, match="must be relative to the data root"):
        source(path)


def test_labels_with_gaps_are_numbered_and_a_line_says_so(tmp_path):
    labels = np.array([5, 99, 1_000_000])
    write(tmp_path, train_y=labels[GOOD["train_y"]], test_y=labels[GOOD["test_y"]])
    with pytest.warns(UserWarning, match="the labels 5, 99, 1000000 are numbered 0 to 2 in this order"):
        data = source().load(tmp_path, 0)
    assert data.num_classes == 3 and set(data.owner.y.tolist()) == {0, 1, 2}
    expected = {image.tobytes(): label for image, label in zip(GOOD["test_x"], GOOD["test_y"], strict=True)}
    for image, label in zip(data.test.x, data.test.y, strict=True):
        assert expected[(image * 255).round().to(torch.uint8).numpy().tobytes()] == label


def test_labels_without_gaps_are_kept_without_a_word(tmp_path, recwarn):
    write(tmp_path)
    assert source().load(tmp_path, 0).num_classes == 3
    assert not recwarn.list


def test_narrow_images_are_not_taken_for_channels_last(tmp_path):
    narrow = RNG.integers(0, 256, (39, 3, 16, 2), dtype=np.uint8)
    write(tmp_path, train_x=narrow[:30], test_x=narrow[30:])
    assert source().load(tmp_path, 0).shape == (3, 16, 2)


def test_an_archive_that_unpacks_to_more_than_there_is_memory_is_refused_unread(tmp_path, monkeypatch):
    file = write(tmp_path)
    np.savez_compressed(file, **(GOOD | {"train_x": np.zeros((30, 3, 1000, 1000), np.uint8)}))
    assert file.stat().st_size < 1_000_000
    monkeypatch.setattr("benchmark.data.npz._memory", lambda: 100_000_000)
    monkeypatch.setattr(np, "load", lambda *given, **named: pytest.fail("it was unpacked"))
    with pytest.raises(DataMissing, match=r"take 0\.1 GB unpacked, more than half of this machine's memory"):
        source().load(tmp_path, 0)


def test_a_path_that_no_file_can_have_is_named(tmp_path):
    with pytest.raises(DataMissing, match="where there is no file"):
        source("x" * 400).load(tmp_path, 0)


def test_a_member_that_is_no_array_is_named(tmp_path):
    file = write(tmp_path)
    with zipfile.ZipFile(file, "w") as archive:
        for name in GOOD:
            archive.writestr(f"{name}.npy", b"nothing")
    with pytest.raises(DataMissing, match=r"train_x\.npy is no array"):
        source().load(tmp_path, 0)


def test_numbers_of_another_byte_order_are_the_same_numbers(tmp_path):
    x = RNG.random((39, 3, 8, 8), dtype=np.float32)
    parts = {"train_x": x[:30], "test_x": x[30:]}
    write(tmp_path, **parts)
    mine = source().load(tmp_path, 0)
    write(tmp_path, **{name: array.astype(">f4") for name, array in parts.items()})
    assert source().load(tmp_path, 0).digest == mine.digest
