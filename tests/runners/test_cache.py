from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file

import gauntlet
from benchmark.cell import play
from benchmark.models.boosted_trees import BoostedTrees
from benchmark.models.shallow import Shallow
from benchmark.seeds import generator
from benchmark.settings.base import ModelBuild
from benchmark.settings.release import mechanism
from runners.cli import main as cli
from runners.config.catalogue import target
from runners.config.identity import labelled
from runners.store import cache as cache_module
from runners.store import cache_admin
from runners.store.cache import Cache
from runners.store.records import Store, lock_path
from tests.runners.conftest import ROOT
from tests.runners.synthetic import record, store

KEY = ("victim", "model", "defense")
CONFIG = {"model": {"name": "net", "width": 2}, "defense": [{"name": "none"}], "threat": {"name": "dlg"}, "seed": 0}


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
        ({"precision": "bf16"}, False),
        ({"model": {"name": "net", "width": 3}}, False),
        ({"defense": [{"name": "none", "version": 2}]}, False),
    ],
)
def test_an_artifact_is_shared_by_what_it_is_made_from(tmp_path: Path, change: dict[str, Any], shared: bool) -> None:
    first, second = Cache(tmp_path, CONFIG, "cpu"), Cache(tmp_path, {**CONFIG, **change}, "cpu")
    assert (first.name(KEY) == second.name(KEY)) is shared


def test_time_of_builds_inside_builds_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr("benchmark.clock.now", lambda: next(clock))
    cache = Cache(tmp_path, CONFIG, "cpu")
    for _ in range(2):  # what is found costs nothing
        cache(("outer", "model"), lambda: cache(KEY, artifact))
    assert cache.seconds == 10.0 and (cache.misses, cache.hits) == (2, 1)


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


@pytest.mark.ci
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


# -- what an artifact is made from ------------------------------------------------------------------------------------
def test_other_data_give_another_artifact(tmp_path: Path) -> None:
    names = {Cache(tmp_path, CONFIG, "cpu").on_data(digest).name(KEY) for digest in ("a" * 64, "b" * 64)}
    assert len(names) == 2


WHOLE = {
    "dataset": {"name": "digits", "provider": "benchmark"},
    "model": {"name": "lenet", "provider": "benchmark"},
    "setting": {"name": "collaboration", "provider": "benchmark"},
    "threat": {"name": "leakage_dlg", "provider": "benchmark"},
    "defense": [{"name": "krum", "provider": "benchmark"}],
    "scale": {"name": "smoke"},
    "seed": 0,
}
NAME = """
import json, sys
from runners.config import catalogue
from runners.store.cache import artifact_name, code_of
config, parts = json.loads(sys.argv[1]), tuple(json.loads(sys.argv[2]))
print(artifact_name(config, parts[0], parts[1:], "cpu", None, code_of(config, parts[1:], catalogue.target)))
assert "torch" not in sys.modules
"""
FEDERATION = ("federation", "dataset", "model", "setting", "defense", "scale")


def name_in(copy: Path, parts: tuple[str, ...] = FEDERATION) -> str:
    """The artifact's name as a process finds it that uses the copy of the suite."""
    line = [sys.executable, "-c", NAME, json.dumps(WHOLE), json.dumps(parts)]
    return subprocess.run(
        line, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, check=True, capture_output=True, text=True
    ).stdout


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_a_change_of_the_code_that_makes_an_artifact_gives_another_one(tmp_path: Path) -> None:
    for folder in ("benchmark", "runners", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = name_in(tmp_path)
    append(tmp_path / "benchmark/settings/collaboration/rounds.py", "\n\n# a comment changes nothing\n")
    append(tmp_path / "benchmark/threats/gradient_leakage/dlg.py", "\n\nOTHER = 1\n")
    assert name_in(tmp_path) == before, "the threat is no part of it"
    append(tmp_path / "benchmark/settings/collaboration/rounds.py", "\n\nOTHER = 1\n")
    after = name_in(tmp_path)
    assert after != before
    append(tmp_path / "benchmark/defenses/collaboration/aggregation/krum.py", "\n\nOTHER = 1\n")
    assert name_in(tmp_path) != after


# -- what is read is what was written ---------------------------------------------------------------------------------
Tensors = dict[str, torch.Tensor]


def rewritten(path: Path, change: Callable[[Tensors, dict[str, str]], None]) -> None:
    """Rewrite a file as somebody who keeps the checksum right."""
    with safe_open(path, framework="pt") as file:
        tensors, told = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    promised = cache_module._promises
    change(tensors, told)
    save_file(tensors, path, metadata=told | {"sha256": promised(tensors)["sha256"]})


def make_nan(tensors: Tensors, told: dict[str, str]) -> None:
    tensors["a"][0] = torch.nan


def rename(tensors: Tensors, told: dict[str, str]) -> None:
    tensors["other"] = tensors.pop("a")


def reshape(tensors: Tensors, told: dict[str, str]) -> None:
    tensors["a"] = tensors["a"].reshape(2, 2)


def retype(tensors: Tensors, told: dict[str, str]) -> None:
    tensors["a"] = tensors["a"].float()


def claim_to_be_another(tensors: Tensors, told: dict[str, str]) -> None:
    told["artifact"] = "examiner"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (make_nan, "values that are not finite"),
        (rename, "other names, shapes or types"),
        (reshape, "other names, shapes or types"),
        (retype, "other names, shapes or types"),
        (claim_to_be_another, "of another artifact"),
    ],
)
def test_content_that_is_not_as_promised_is_built_again_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Tensors, dict[str, str]], None], words: str
) -> None:
    Cache(tmp_path, CONFIG, "cpu")(KEY, artifact)
    rewritten(only_file(tmp_path), change)
    cache = Cache(tmp_path, CONFIG, "cpu")
    assert torch.equal(cache(KEY, artifact)["a"], artifact()["a"])
    assert (cache.hits, cache.misses) == (0, 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and line.endswith("it is built again.") and "'victim'" in line
    cache(KEY, forbidden)
    assert cache.hits == 1


def test_an_artifact_that_diverged_is_found_as_it_was(tmp_path: Path) -> None:
    built = {"weights": torch.tensor([torch.nan, 1.0])}
    cache = Cache(tmp_path, CONFIG, "cpu")
    cache(KEY, lambda: built)
    assert cache(KEY, forbidden)["weights"].isnan().tolist() == [True, False]


def test_a_state_of_another_model_is_built_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def build(width: int) -> ModelBuild:
        return ModelBuild(torch.nn.Linear(2, width), lambda model: model, 0, "test")

    cache = Cache(tmp_path, CONFIG, "cpu")
    cache(KEY, build(3))
    assert cache(KEY, build(3))["weight"].shape == (3, 2) and cache.hits == 1
    assert cache(KEY, build(4))["weight"].shape == (4, 2) and cache.misses == 2
    assert "does not have the tensors that are asked for" in capsys.readouterr().err


@pytest.mark.parametrize("model", [BoostedTrees, Shallow])
def test_a_model_that_is_empty_until_it_is_fitted_comes_out_of_the_cache(tmp_path: Path, model: type) -> None:
    def train(module: BoostedTrees | Shallow) -> torch.nn.Module:
        return module.fit(torch.rand(40, 3), torch.arange(40) % 2, generator(0, "test"))

    cache = Cache(tmp_path, CONFIG, "cpu")
    built = cache(KEY, ModelBuild(model(shape=(3,), num_classes=2), train, 0, "test"))
    found = cache(KEY, ModelBuild(model(shape=(3,), num_classes=2), train, 0, "test"))
    assert cache.hits == 1 and all(torch.equal(found[name], tensor) for name, tensor in built.items())


# -- cache_admin
ARTIFACT = ("victim", "model", "defense")


def build() -> dict[str, torch.Tensor]:
    return {"weights": torch.ones(1000)}


def cache_of(root: Path, record: dict[str, Any]) -> Cache:
    """The cache of the cell that left the record."""
    targets = {label: target(label, node["provider"]) for label, node in labelled(record["config"])}
    known = {label: found for label, found in targets.items() if found}
    return Cache(root, record["config"], "cpu", known).on_data(record["data"])


def fill(root: Path, *records: dict[str, Any]) -> None:
    for one in records:
        cache_of(root, one)(ARTIFACT, build)


def test_entries_say_what_they_are(tmp_path: Path) -> None:
    fill(tmp_path, record(seed=0), record(seed=1))
    found = list(cache_admin.entries(tmp_path))
    assert [(entry.artifact, entry.parts, entry.device) for entry in found] == [("victim", ARTIFACT[1:], "cpu")] * 2
    assert all(4000 < entry.size < 5000 for entry in found)


def test_prune_removes_what_no_record_was_made_from(tmp_path: Path) -> None:
    known, gone = record(seed=0), record(seed=1)
    store(tmp_path, [known])
    fill(tmp_path, known, gone)
    (damaged := tmp_path / "cache" / "ab" / f"{'ab' * 32}.safetensors").parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"half")
    removed, left = cache_admin.prune(Store(tmp_path), None)
    assert sorted(entry.artifact for entry in removed) == ["(damaged)", "victim"]
    assert [entry.path for entry in left] == list(tmp_path.glob("cache/??/*.safetensors"))
    cache = cache_of(tmp_path, known)
    cache(ARTIFACT, build)
    assert cache.hits == 1, "what the record was made from is still there"


def test_prune_by_age_counts_from_the_last_use(tmp_path: Path) -> None:
    old, used = record(seed=0), record(seed=1)
    fill(tmp_path, old, used)
    month_ago = time.time() - 30 * cache_admin.DAY
    for entry in cache_admin.entries(tmp_path):
        os.utime(entry.path, (month_ago, month_ago))
    fill(tmp_path, used)
    removed, left = cache_admin.prune(Store(tmp_path), 7)
    assert [len(removed), len(left)] == [1, 1]
    assert left[0].path.stem == cache_of(tmp_path, used).name(ARTIFACT)


def test_what_is_being_built_stays(tmp_path: Path) -> None:
    fill(tmp_path, record())
    (entry,) = cache_admin.entries(tmp_path)
    with FileLock(lock_path(tmp_path, entry.path.stem)):
        assert cache_admin.prune(Store(tmp_path), None) == ([], [entry])
    assert cache_admin.prune(Store(tmp_path), None) == ([entry], [])


def test_leftovers_of_killed_writers_go_after_a_day(tmp_path: Path) -> None:
    fill(tmp_path, record())
    (folder,) = tmp_path.glob("cache/??")
    fresh, stale = folder / f".{'ab' * 8}-fresh", folder / f".{'ab' * 8}-stale"
    for path in (fresh, stale):
        path.write_bytes(b"half")
    os.utime(stale, (0, 0))
    cache_admin.prune(Store(tmp_path), 7)
    assert fresh.exists() and not stale.exists()


def test_the_command_lists_and_prunes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, record(seed=0), record(seed=1))
    (tmp_path / "records").mkdir()
    for arguments, words in (((), "victim"), (("--days", "1"), "0 removed"), (("--prune",), "2 removed")):
        monkeypatch.setattr("sys.argv", ["gauntlet", "cache", "--store", str(tmp_path), *arguments])
        assert cli.main() == 0
        assert words in capsys.readouterr().out
    assert not list(tmp_path.glob("cache/??/*.safetensors"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("threat", "defense", "adaptive"),
    [
        ("member_generator", "dp_sinkhorn", False),
        ("reconstruction_chosen_plaintext", "instahide", False),
        ("reconstruction_features", "ip_sanitize", True),
        ("identity_handed_networks", "anonymous_stimuli", False),
    ],
)
def test_a_release_kept_by_the_process_gives_the_numbers_of_one_fitted_anew(
    tmp_path: Path, threat: str, defense: str, adaptive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mechanism, "_last", {})
    chosen = [f"threat={threat}", f"defense={defense}", *(["threat.adaptive=true"] if adaptive else [])]
    cell = gauntlet.cell(*chosen)

    def numbers() -> dict[str, float]:
        cache = Cache(tmp_path, cell.composed.config, "cpu", cell.composed.targets())
        outcome, _ = play(cell.build(), device="cpu", cache=cache)
        return outcome.risk | outcome.utility

    made = numbers()
    (kept,) = mechanism._last
    assert numbers() == made and list(mechanism._last) == [kept]
    mechanism._last.clear()
    assert numbers() == made
