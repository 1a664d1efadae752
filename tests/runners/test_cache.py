from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runners.store.cache import Cache

KEY = ("victim", "model", "defense")
CONFIG = {"model": {"width": 2}, "defense": [{"name": "none"}], "threat": {"name": "dlg"}, "seed": 0}


def artifact() -> dict[str, torch.Tensor]:
    shared = torch.arange(4, dtype=torch.float64) / 3
    others = {"half": torch.ones(3, dtype=torch.bfloat16), "none": torch.empty(0, 2), "kept": torch.arange(3)}
    crossed = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    flags = torch.tensor([True, False])
    return {"a": shared, "view": shared[1:], "scalar": torch.tensor(0.1), "flags": flags, "crossed": crossed, **others}


def test_what_is_no_model_is_kept_as_well(tmp_path: Path) -> None:
    """Check artifacts of sanitised sets, generators and shadow models: a data set with its labels, a mask, a scale."""
    built = {
        "x": torch.rand(5, 1, 2, 2),
        "y": torch.tensor([0, 3, 1, 9, 2], dtype=torch.uint8),
        "empty": torch.empty(0),
    }
    for _ in range(2):
        found = Cache(tmp_path, CONFIG, "cpu")(("sanitised", "model"), lambda: built)
        assert all(torch.equal(found[name], built[name]) and found[name].dtype == built[name].dtype for name in built)
    assert Cache(tmp_path, CONFIG, "cpu")(("nothing", "model"), dict) == {}


def forbidden() -> dict[str, torch.Tensor]:
    raise AssertionError("it was built again")


def only_file(root: Path) -> Path:
    (path,) = root.glob("cache/*/*.safetensors")
    return path


def test_what_was_built_is_found_bit_for_bit(tmp_path: Path) -> None:
    cache = Cache(tmp_path, CONFIG, "cpu")
    built, found = cache(KEY, artifact), cache(KEY, forbidden)
    assert (cache.hits, cache.misses) == (1, 1)
    assert built.keys() == found.keys()
    for name in built:
        assert built[name].dtype == found[name].dtype
        assert torch.equal(built[name], found[name])


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"threat": {"name": "other"}}, True),
        ({"seed": 1}, False),
        ({"model": {"width": 3}}, False),
        ({"defense": [{"name": "none", "version": 2}]}, False),
    ],
)
def test_an_artifact_is_shared_by_what_it_is_made_from(tmp_path: Path, change: dict[str, Any], shared: bool) -> None:
    first, second = Cache(tmp_path, CONFIG, "cpu"), Cache(tmp_path, {**CONFIG, **change}, "cpu")
    assert (first.name(KEY) == second.name(KEY)) is shared


def test_devices_of_a_kind_share() -> None:
    names = {device: Cache(Path(), CONFIG, device).name(KEY) for device in ("cpu", "cuda:0", "cuda:1")}
    assert names["cuda:0"] == names["cuda:1"] != names["cpu"]


def flip_last_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flip_last_bit, lambda content: content[: len(content) // 2], lambda content: b""])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    Cache(tmp_path, CONFIG, "cpu")(KEY, artifact)
    path = only_file(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    cache = Cache(tmp_path, CONFIG, "cpu")
    assert torch.equal(cache(KEY, artifact)["a"], artifact()["a"])
    assert (cache.hits, cache.misses) == (0, 1)
    assert torch.equal(cache(KEY, forbidden)["a"], artifact()["a"])


def test_a_build_that_fails_leaves_nothing_and_no_lock(tmp_path: Path) -> None:
    cache = Cache(tmp_path, CONFIG, "cpu")
    with pytest.raises(AssertionError):
        cache(KEY, forbidden)
    assert not list(tmp_path.glob("cache/*/*.safetensors"))
    cache(KEY, artifact)


def build_slowly(root: Path, log: Path) -> None:
    def build() -> dict[str, torch.Tensor]:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        return artifact()

    Cache(root, CONFIG, "cpu")(KEY, build)


def test_two_processes_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=build_slowly, args=(tmp_path, log)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.read_text() == "built\n"
