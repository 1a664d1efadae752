"""Files of the user's: another data set or other weights under the same path make another cell and other artifacts.

A network of a function of the user's is made of trusted code alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from runners.cli.explain import command as explained
from runners.config.brought import with_digest
from tests.runners import fakes
from tests.runners.conftest import SEARCH, Command, composed, records

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


# -- models -----------------------------------------------------------------------------------------------------------
FACTORY = (
    "model=factory",
    "model.call=tests.runners.fakes:fake_network",
    "dataset=fake",
    "setting=fake",
    "threat=fake",
)


def save_weights(file: Path, seed: int) -> str:
    """Write weights of the fake network and return the override that names them."""
    torch.manual_seed(seed)
    save_file(fakes.fake_network(shape=(1, 8, 8), num_classes=2).state_dict(), file)
    return f"model.weights={file}"


def test_the_content_of_weights_is_in_the_key_and_their_path_is_not(tmp_path: Path) -> None:
    weights = [save_weights(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    same, copied, other, none = (composed(*FACTORY, *line).key for line in [*([w] for w in weights), []])
    assert same == copied and len({same, other, none}) == 3
    cell = composed(*FACTORY, weights[0])
    assert str(tmp_path) not in str(cell.config) and cell.nodes["model"]["weights"] == str(tmp_path / "a")


def test_a_cell_on_weights_is_recorded_by_their_digest_and_played_again_with_the_file(
    command: Command, tmp_path: Path
) -> None:
    line = save_weights(tmp_path / "w", 0)
    code, _, error = command("run", *FACTORY, line)
    assert code == 0, error
    (record,) = records(tmp_path)
    assert record["config"]["model"] == {
        "name": "factory",
        "provider": "benchmark",
        "version": 1,
        "call": "tests.runners.fakes:fake_network",
        "function": {"class": "fake_network", "provider": "tests", "version": 1},
        "sha256": hashlib.sha256((tmp_path / "w").read_bytes()).hexdigest(),
    }
    assert record["versions"]["components"]["fake_network"]["digest"]
    shell, changed = explained(record["config"], SEARCH)
    assert not changed and str(record["config"]["model"]["sha256"]) in shell
    code, _, error = command("run", *FACTORY, "model.weights=none.safetensors")
    assert (code, error) == (2, "model.weights=none.safetensors: there is no such file.\n")


def test_a_function_is_imported_only_of_a_trusted_package(command: Command) -> None:
    for verb in ("run", "plan"):
        code, _, error = command(verb, "model=factory", "model.call=os:system")
        assert code == 2 and "os.system is not allowed" in error
    code, _, error = command("run", "model=factory", "model.call=os.system")
    assert code == 2 and "A function is named module:function" in error
