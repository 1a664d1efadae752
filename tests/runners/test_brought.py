"""Data sets in files of the user's: another file under the same path is another cell, made of other artifacts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from runners.config.brought import with_digest
from tests.runners.conftest import Command, composed, records

CELL = (
    "dataset=npz",
    "dataset.path=mine.npz",
    "dataset.sizes={owner:4,attacker:0,public:0,calibration:0,test:null}",
    "model=fake",
    "setting=fake",
)


def write(root: Path, seed: int) -> str:
    """Write a data set and return the digest of its file."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (30, 1, 8, 8), dtype=np.uint8), np.arange(30) % 3
    np.savez(root / "mine.npz", train_x=x[:20], train_y=y[:20], test_x=x[20:], test_y=y[20:])
    return hashlib.sha256((root / "mine.npz").read_bytes()).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (found := tmp_path / "data").mkdir()
    return found


def test_a_replaced_file_uses_neither_an_old_record_nor_an_old_artifact(
    command: Command, tmp_path: Path, root: Path
) -> None:
    digests = []
    for seed in range(2):
        digests.append(write(root, seed))
        code, out, error = command("run", "-m", *CELL, "threat=fake", "hydra/launcher=basic", f"data.root={root}")
        assert code == 0, error
        assert "0 reused" in out and "1 │ to run" in out
    told = records(tmp_path)
    assert {record["config"]["dataset"]["sha256"] for record in told} == set(digests)
    assert len({record["data"] for record in told}) == 2
    assert len(list(tmp_path.glob("cache/??/*.safetensors"))) == 2
    _, out, _ = command("run", "-m", *CELL, "threat=fake", f"data.root={root}")
    assert "1 │ finished" in out


def test_a_digest_that_is_given_makes_the_same_cell(root: Path) -> None:
    digest = write(root, 0)
    cells = [composed(*CELL, "threat=fake", f"data.root={root}", *more) for more in ((), (f"dataset.sha256={digest}",))]
    assert cells[0].key == cells[1].key
    assert cells[0].nodes["dataset"]["sha256"] == digest, "and the loader holds the file against it"


def test_two_roots_with_other_files_are_two_cells(tmp_path: Path) -> None:
    keys = set()
    for seed in range(2):
        (folder := tmp_path / str(seed)).mkdir()
        write(folder, seed)
        keys.add(composed(*CELL, "threat=fake", f"data.root={folder}").key)
    assert len(keys) == 2


def test_only_files_in_the_root_and_without_a_digest_are_looked_at(root: Path) -> None:
    write(root, 0)
    outside = str(root.parent / "data" / ".." / "data" / "mine.npz")
    for node in ({"path": "mine.npz"}, {"path": "mine.npz", "sha256": "ab"}, {"path": outside, "sha256": None}):
        assert with_digest(node, root / "deeper") == node
        assert "sha256" not in node or with_digest(node, root)["sha256"] == node["sha256"]
    assert with_digest({"path": "none.npz", "sha256": None}, root)["sha256"] is None
    assert with_digest({"path": "mine.npz", "sha256": None}, None)["sha256"] is None
