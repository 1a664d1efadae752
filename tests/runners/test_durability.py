"""Power cuts, full disks and crowds: whatever happens, the same command ends with the same records.

Sweeps that are to die run in forks of this process, which spares each of them the import of torch.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners import cli
from tests.runners.conftest import SEARCH, Command, records, start

CELLS = 10  # of conf/sweep/fake.yaml
CLOCKS = ("started", "seconds", "peak_memory_mb", "sweep")
CALLS = ("fsync", "replace")  # what stands between a file and its permanence


def science(store: Path) -> dict[str, dict[str, Any]]:
    """Every record without its times."""
    stored = {record["key"]: record for record in records(store)}
    for record in stored.values():
        for name in CLOCKS:
            del record[name]
        for section in ("cost", "diagnostics"):
            record[section] = {name: v for name, v in record[section].items() if not name.endswith("seconds")}
    return stored


def fork_sweep(store: Path, *arguments: str, before: Callable[[], object] = lambda: None) -> int:
    """Start ``gauntlet sweep`` in a fork that says nothing; gives its process number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        before()
        sys.argv = ["gauntlet", "sweep", *arguments, f"store={store}", *SEARCH]
        os._exit(cli.main())
    finally:
        os._exit(70)


def ended(child: int, within: float = 60.0) -> int:
    """Wait for the fork; gives its exit code, negative for a signal."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the sweep did not end within {within} s")


def finish(store: Path, *arguments: str) -> None:
    assert ended(fork_sweep(store, *arguments)) == 0
    assert not [path for path in store.glob("records/*/*.json") if path.stat().st_size == 0]


@pytest.fixture
def undisturbed(command: Command, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The records of ``sweep=fake`` when nothing goes wrong; also warms up the imports that forks share."""
    assert command("sweep", "sweep=fake")[0] == 0
    found = science(tmp_path)
    shutil.rmtree(tmp_path / "records")
    shutil.rmtree(tmp_path / "cache")
    return found


def kill_at_random(folder: Path, kills: int, chance: random.Random, expected: dict[str, Any]) -> None:
    """Kill sweeps until ``kills`` of them died of it, each store being finished in between now and then."""
    landed, number, sleeping = 0, 0, ("sweep=fake", "threat.sleep=0.05")
    while landed < kills:
        store = folder / f"store-{number}"
        child = fork_sweep(store, *sleeping)
        time.sleep(chance.uniform(0.0, 1.2))
        os.kill(child, signal.SIGKILL)
        died = ended(child) == -signal.SIGKILL
        landed += died
        if not died or chance.random() < 0.4 or landed == kills:
            before = {path: path.stat().st_mtime_ns for path in store.glob("records/*/*.json")}
            finish(store, *sleeping)
            assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing twice"
            assert len(found := science(store)) == CELLS
            for record, wanted in zip(found.values(), expected.values(), strict=True):
                assert record["config"]["threat"]["sleep"] == 0.05 and record["status"] == wanted["status"] == "ok"
            number += 1


def test_kills_at_random_instants(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    kill_at_random(tmp_path, 3, random.Random(time.time_ns()), undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_kills_at_random_instants(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    kill_at_random(tmp_path, 40, random.Random(time.time_ns()), undisturbed)


def fail_from(call: int, act: Callable[[], object]) -> Callable[[], None]:
    """Have the system calls of :data:`CALLS`, counted together, do ``act`` instead from number ``call`` on."""

    def install() -> None:
        seen = 0

        def instead(real: Callable[..., Any]) -> Callable[..., Any]:
            def acting(*arguments: Any, **keywords: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen > call:
                    act()
                return real(*arguments, **keywords)

            return acting

        for name in CALLS:
            setattr(os, name, instead(getattr(os, name)))

    return install


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", range(8))
def test_death_at_each_step_of_a_write(tmp_path: Path, undisturbed: dict[str, Any], call: int) -> None:
    die = fail_from(call, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert ended(fork_sweep(tmp_path, "sweep=fake", before=die)) == -signal.SIGKILL
    finish(tmp_path, "sweep=fake")
    assert science(tmp_path) == undisturbed


@pytest.mark.parametrize("call", [0, 10, 25])
def test_a_full_disk_is_told_and_loses_nothing(
    command: Command, tmp_path: Path, undisturbed: dict[str, Any], call: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, getattr(os, name))  # so that they are put back
        fail_from(call, full)()
        code, _, error = command("sweep", "sweep=fake")
    assert code != 0
    assert "No space left on device" in error
    assert "Traceback" not in error
    kept = science(tmp_path)
    assert len(kept) < CELLS
    assert all(undisturbed[key] == record for key, record in kept.items() if record["status"] == "ok")
    assert sum(record["status"] == "ok" for record in kept.values()) >= min(call // 6, 2)
    finish(tmp_path, "sweep=fake")
    assert science(tmp_path) == undisturbed


def test_the_order_of_real_cells_changes_no_number(command: Command, tmp_path: Path) -> None:
    cells = [
        ("threat=leakage_control_noise", "defense=none", "setting.rounds=1"),
        ("threat=leakage_control_copy", "defense=gradient_noise", "setting.rounds=1"),
        ("threat=reconstruction_control_mean", "defense=rmt", "setting.epochs=1", "setting.examiner_epochs=1"),
        ("threat=poison_gaussian", "defense=dp_sgd", "setting.rounds=1"),
    ]
    found = []
    for order in (cells, cells[::-1]):
        for cell in order:
            assert command("run", *cell, "cache=false")[0] == 0
        found.append(science(tmp_path))
        shutil.rmtree(tmp_path / "records")
    assert len(found[0]) == len(cells)
    assert found[0] == found[1]


def workers(parent: int) -> list[int]:
    """Processes that descend from ``parent`` and play cells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text, line = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == parent and b"LokyProcess" in line:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
def test_kills_of_workers_and_parents(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    chance = random.Random(time.time_ns())
    for _ in range(8):
        process = start("sweep", tmp_path, "sweep=fake", "threat.sleep=0.5", *launcher)
        known = len(records(tmp_path))
        while process.poll() is None and len(records(tmp_path)) == known:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        victims = [process.pid, *workers(process.pid)]
        if process.poll() is None:
            os.kill(chance.choice(victims), signal.SIGKILL)
        process.communicate(timeout=60)
        if len(records(tmp_path)) == CELLS:
            break
    process = start("sweep", tmp_path, "sweep=fake", "threat.sleep=0.5", *launcher)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert len(records(tmp_path)) == CELLS == len(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="needs the extra slurm (pip install -e .[slurm])"
)
def test_submitit_gives_the_same_records(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    launcher = ("hydra/launcher=submitit_local", f"hydra.launcher.submitit_folder={tmp_path}/submitit")
    process = start("sweep", tmp_path, "sweep=fake", *launcher)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert science(tmp_path) == undisturbed
