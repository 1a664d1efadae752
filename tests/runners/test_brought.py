"""Data of the user's: other content under the same path is another cell, and the same content anywhere is the same."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmark.data.content import content_digest
from runners.cli.explain import command as explained
from runners.config.brought import lost, with_digest
from tests.runners.conftest import ROOT, Command, composed, records

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


@pytest.mark.ci
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


# -- data that are named by their content alone ------------------------------------------------------------------------
MINE = ("dataset=arrays", "model=fake", "setting=fake", "threat=fake")


def arrays(file: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    file.parent.mkdir(exist_ok=True, parents=True)
    np.savez(file, x=rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8), y=np.arange(60) % 3)
    return file


@pytest.mark.ci
def test_moved_data_keep_their_records_and_replaced_ones_do_not(command: Command, tmp_path: Path) -> None:
    file = arrays(tmp_path / "a/mine.npz", 0)
    code, out, error = command("run", *MINE, f"dataset.path={file}")
    assert code == 0, error
    (record,) = records(tmp_path)
    assert "path" not in record["config"]["dataset"] and record["facts"]["data_path"] == str(file)
    moved = file.rename(tmp_path / "yours.npz")
    _, out, _ = command("run", "-m", *MINE, f"dataset.path={moved}", "hydra/launcher=basic")
    assert "1 │ finished" in out
    arrays(moved, 1)
    _, out, _ = command("run", "-m", *MINE, f"dataset.path={moved}", "hydra/launcher=basic")
    assert "1 │ to run" in out and len(records(tmp_path)) == 2


def test_a_path_is_looked_up_from_here_and_then_from_the_data_root(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    file = arrays(root / "sub/mine.npz", 0)
    in_root = composed(*MINE, "dataset.path=sub/mine.npz", f"data.root={root}")
    absolute = composed(*MINE, f"dataset.path={file}")
    nearer = arrays(here / "sub/mine.npz", 1)
    from_here = composed(*MINE, "dataset.path=sub/mine.npz", f"data.root={root}")
    assert in_root.key == absolute.key != from_here.key
    assert [cell.nodes["dataset"]["path"] for cell in (in_root, from_here)] == [str(file), str(nearer)]


@pytest.mark.parametrize("name", ["mine.npz", "it's mine, [1] {a}.npz"])
def test_a_record_is_explained_with_the_path_of_its_data(tmp_path: Path, name: str) -> None:
    file = arrays(tmp_path / name, 0)
    node = f"dataset.path='{file!s}'".replace("it's", "it\\'s")
    cell = composed("dataset=arrays", "threat=leakage_control_mean", node, "dataset.sizes.owner=20")
    line, changed = explained(cell.config, data_path=str(file))
    assert changed == [] and composed(*shlex.split(line)[3:]).key == cell.key


def test_a_record_whose_data_are_gone_says_so(command: Command, tmp_path: Path) -> None:
    file = arrays(tmp_path / "mine.npz", 0)
    cell = composed("dataset=arrays", f"dataset.path={file}", "threat=leakage_control_mean")
    record = {"key": cell.key, "config": cell.config, "facts": {"data_path": str(file)}}
    assert lost(record) is None
    file.rename(tmp_path / "yours.npz")
    told = lost(record)
    assert told and f"lay at {file}" in told and f"again {cell.key[:12]} dataset.path=PATH" in told
    assert lost(record, ["dataset.path=yours.npz"]) is None
    assert "a place that it does not tell" in str(lost({**record, "facts": {}}))
    assert lost({**record, "config": {"dataset": {"name": "digits"}}}) is None


def test_a_folder_is_named_by_the_names_and_bytes_in_it(tmp_path: Path) -> None:
    def made(name: str, files: dict[str, str]) -> str:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return content_digest(tmp_path / name)

    files = {"a/1.png": "x", "b/2.png": "y"}
    assert made("one", files) == made("two", files | {".DS_Store": "z", ".git/config": "z"})
    assert len({made("three", {"a/1.png": "y", "b/2.png": "x"}), made("four", {"a/1.png": "x"}), made("one", {})}) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ((*MINE, "dataset.path=nowhere.npz"), "names nothing"),
        ((*MINE, "dataset.path=README.md"), "is none of .npz"),
        (("dataset=table", *MINE[1:], "dataset.path=README.md"), "is neither .csv nor .parquet"),
        (("dataset=folder", *MINE[1:], "dataset.path=README.md"), "reads a folder that holds a folder"),
        (("dataset=torchvision", *MINE[1:], "dataset.set=SVNH"), "dataset.set must be one of"),
    ],
)
def test_a_run_on_data_that_cannot_be_used_ends_with_2(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(ROOT)
    code, _, error = command("run", *line)
    assert code == 2 and words in error and "Traceback" not in error
    assert records(tmp_path) == []
