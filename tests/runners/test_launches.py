"""Launches of cells, and the process that plays one."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_module
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

from benchmark.errors import ConfigError
from runners.store.records import Store
from runners.sweep import devices
from runners.sweep.launches import launch_all
from runners.sweep.plan import Planned
from runners.sweep.process import give_back_memory, keep_plugins, prepare_torch
from tests.runners.conftest import FAKE_CELL, Command, composed, records, start
from tests.runners.test_sweep import numbers

SMALL = ("sweep=fake", "seed=0", "threat.adaptive=false,true", "defense=none,gradient_noise", "threat=fake")


class Workers:
    """Launcher that breaks down at the cells with these seeds; those before them in a batch are played.

    Cells with ``large`` seeds run out of memory beside others.
    """

    def __init__(
        self,
        store: Store,
        deadly: frozenset[int] | set[int] = frozenset(),
        *,
        whole: bool = True,
        large: frozenset[int] | set[int] = frozenset(),
    ) -> None:
        self.store, self.deadly, self.whole, self.large = store, deadly, whole, large
        self.batches: list[list[int]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        seeds = [int(line.removeprefix("seed=")) for (line,) in job_overrides]
        self.batches.append(seeds)
        if not self.whole:
            raise RuntimeError("there is no queue")
        answers = []
        for seed in seeds:
            cell = composed(*FAKE_CELL, f"seed={seed}")
            with self.store.claim(cell.key):
                if seed in self.deadly:
                    raise RuntimeError("a worker was killed")
                self.store.path(cell.key).parent.mkdir(parents=True, exist_ok=True)
                self.store.path(cell.key).write_text('{"status": "ok"}')
            short = seed in self.large and len(seeds) > 1
            told = {"key": cell.key, "status": "failed" if short else "ok", "short": short}
            answers.append(SimpleNamespace(return_value=told))
        return answers


def play(launcher: Workers, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    cells = [Planned(composed(*FAKE_CELL, f"seed={seed}"), (f"seed={seed}",)) for seed in range(4)]
    said: list[str] = []
    given = {"at_once": None, "again": True, "side_by_side": True} | options
    return launch_all(launcher, cells, launcher.store, say=said.append, **given), said  # type: ignore[arg-type]


def test_a_cell_that_kills_its_worker_is_recorded_and_the_others_are_played(tmp_path: Path) -> None:
    launcher = Workers(Store(tmp_path), {1})
    _, said = play(launcher)
    assert launcher.batches == [[0, 1, 2, 3], [1], [2, 3]]
    statuses = sorted(record["status"] for record in records(tmp_path))
    assert statuses == ["failed", "ok", "ok", "ok"]
    (failed,) = [record for record in records(tmp_path) if record["status"] == "failed"]
    assert failed["seed"] == 1 and "its worker process died, twice" in failed["reason"]
    assert failed["facts"]["headline"] == "ssim"
    assert "a worker was killed" in said[0] and "seed 1" in said[1]


def test_a_cell_that_ran_out_of_memory_beside_others_is_played_alone(tmp_path: Path) -> None:
    launcher = Workers(Store(tmp_path), large={1, 3})
    answers, said = play(launcher)
    assert launcher.batches == [[0, 1, 2, 3], [1], [3]]
    assert [answer["status"] for answer in answers[4:]] == ["ok", "ok"] and "Out of memory 2 times" in said[0]
    launcher = Workers(Store(tmp_path), large={1})
    play(launcher, side_by_side=False)
    assert launcher.batches == [[0, 1, 2, 3]], "it was alone"


def test_a_launcher_that_begins_nothing_is_not_asked_again(tmp_path: Path) -> None:
    launcher = Workers(Store(tmp_path), set(), whole=False)
    assert play(launcher)[0] == []
    assert len(launcher.batches) == 1 and records(tmp_path) == []


def test_a_queue_is_not_filled_twice(tmp_path: Path) -> None:
    launcher = Workers(Store(tmp_path), {1})
    play(launcher, again=False)
    assert launcher.batches == [[0, 1, 2, 3]]


def test_some_launchers_get_a_few_cells_at_a_time(tmp_path: Path) -> None:
    launcher = Workers(Store(tmp_path), set())
    answers, _ = play(launcher, at_once=2)
    assert launcher.batches == [[0, 1], [2, 3]]
    assert len(answers) == 4


def test_a_launcher_that_is_not_installed_is_told_with_its_extra(command: Command) -> None:
    if find_spec("hydra_plugins.hydra_ray_launcher"):
        pytest.skip("it is installed")
    code, _, error = command("sweep", "sweep=fake", "hydra/launcher=ray")
    assert code == 2 and "needs a package which is not installed: pip install -e '.[ray]'" in error


def test_the_preset_for_slurm_composes() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with initialize_config_module("conf", version_base="1.3"):
        lines = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"]
        config = compose("sweeps", lines, return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.gpus_per_node, launcher.timeout_min) == ("gpu", 1, 60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_launcher_gives_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    for launcher in ("basic", "joblib", "submitit_local"):
        process = start("sweep", tmp_path / launcher, *SMALL, f"hydra/launcher={launcher}")
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert len(numbers(tmp_path / "basic")) == 4
    assert numbers(tmp_path / "joblib") == numbers(tmp_path / "basic") == numbers(tmp_path / "submitit_local")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, whose allocator is left alone")
def test_freed_memory_is_kept_for_the_next_tensor_until_it_is_given_back():
    prepare_torch(threads=1, device="cpu")

    def faults_of_a_round() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        together = [torch.ones(5_000_000) for _ in range(5)]  # 100 MB in all
        del together
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    for _ in range(3):  # the heap grows to what is needed
        faults_of_a_round()
    pages = 5 * 20_000_000 // resource.getpagesize()
    assert faults_of_a_round() < pages / 20
    give_back_memory()
    assert faults_of_a_round() > pages / 2


def test_threads_are_those_that_were_asked_for():
    prepare_torch(threads=1, device="cpu")
    assert torch.get_num_threads() == 1


def test_hydra_looks_for_plugins_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins, "_initialize", Plugins._initialize)  # put back at the end
    known = Plugins.instance().class_name_to_class
    keep_plugins.__wrapped__()
    monkeypatch.setattr(Plugins, "_scan_all_plugins", lambda modules: pytest.fail("looked for again"))
    Singleton.set_state(Singleton.get_state())  # what a launcher does before each job
    assert Plugins.instance().class_name_to_class == known != {}


# -- devices
CARDS = ["GPU-a", "GPU-b"]


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    held: dict[str, FileLock] = {}
    monkeypatch.setattr(devices, "_held", held)
    yield
    for lock in held.values():
        lock.release()


def test_each_process_takes_a_card_that_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [devices._take(CARDS, tmp_path) for _ in range(2)] == [0, 0], "a process keeps what it has"
    monkeypatch.setattr(devices, "_held", mine := {})
    assert devices._take(CARDS, tmp_path) == 1
    assert devices._take(CARDS[::-1], tmp_path) == 0, "known by its name, not by its index"
    mine["GPU-b"].release()
    monkeypatch.setattr(devices, "_held", {})
    assert devices._take(CARDS, tmp_path) == 1, "free again"


def test_only_unnamed_gpus_are_assigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=CARDS[index]))
    folder = tmp_path / f"gauntlet-gpus-{os.getuid()}"
    folder.mkdir()
    with FileLock(folder / "GPU-a.lock"):
        assert {wanted: devices.assign(wanted) for wanted in ("cpu", "cuda:0", "cuda", "auto")} == {
            "cpu": "cpu",
            "cuda:0": "cuda:0",
            "cuda": "cuda:1",
            "auto": "cuda:1",
        }
    with pytest.raises(ConfigError, match="this machine has 2 GPUs"):
        devices.assign("cuda:2")
