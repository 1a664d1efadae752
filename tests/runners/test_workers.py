"""Worker processes and time limits: what is lost when a process dies, and that none lives on."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from benchmark.errors import ConfigError
from hydra_plugins.gauntlet_sweeper.local_launcher import _batches
from runners.store.cache import Cache
from runners.store.records import lock_path
from runners.sweep import execute as execution
from runners.sweep import pool
from runners.sweep.child import Child, ChildDied
from runners.sweep.execute import Played, execute
from runners.sweep.plan import Plan, Planned
from runners.sweep.pool import Lost, call_all
from runners.sweep.sweep import memory_warning
from tests.runners.calls import double
from tests.runners.conftest import FAKE_CELL, Command, composed, records, start

VICTIM = ("victim", "dataset", "model", "setting", "defense", "scale")


def test_a_call_whose_worker_dies_is_lost_and_the_others_are_not() -> None:
    calls = [(double, (number,)) for number in (1, -1, 2, -1, 3, 4)]
    assert call_all(calls, 2) == [2, Lost, 4, Lost, 6, 8]


def test_what_a_call_raises_is_raised_here() -> None:
    with pytest.raises(ConfigError, match="thirteen"):
        call_all([(double, (13,))], 1)


def done(kinds: str, workers: int, families: str | None = None) -> list[str]:
    """Return the kinds that each of ``workers`` does in turn, all calls taking as long."""
    waiting, last = pool._Waiting(kinds, families or kinds), dict.fromkeys(range(workers))
    did = [""] * workers
    while waiting:
        for worker in range(min(workers, len(waiting))):
            others = {index for who, index in last.items() if who != worker and index is not None}
            last[worker] = waiting.take(last[worker], others)
            did[worker] += kinds[last[worker]]
    return did


def test_a_worker_stays_with_a_kind_and_helps_where_most_is_left() -> None:
    assert done("abcabc", 1) == ["aabbcc"]
    assert done("abcabc", 2) == ["aac", "bbc"]
    assert done("ababababb", 2) == ["aaaab", "bbbb"]
    assert done("aaab", 3) == ["aa", "b", "a"]


def test_workers_are_at_different_families_while_there_are_several() -> None:
    assert done("aabbccdd", 2) == ["aacc", "bbdd"]
    assert done("aabbccdd", 2, "11112222") == ["aabb", "ccdd"]
    assert done("aabbccdd", 2, "11111122") == ["aabb", "ddcc"]


def test_calls_with_kinds_return_in_their_order() -> None:
    assert call_all([(double, (number,)) for number in range(6)], 2, "ababab") == [0, 2, 4, 6, 8, 10]


class Counted(Child):
    """A child of which the first ``doomed`` are killed before they are ready."""

    made = doomed = 0

    def __init__(self) -> None:
        super().__init__()
        Counted.made += 1
        if Counted.made <= Counted.doomed:
            self.process.kill()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    Counted.made = Counted.doomed = 0
    monkeypatch.setattr(pool, "Child", Counted)
    return Counted


def test_there_are_no_more_workers_than_cells(counted: type[Counted]) -> None:
    assert call_all([(double, (1,))], 30) == [2]
    assert counted.made == 1


def test_a_worker_that_is_lost_at_its_start_is_replaced(counted: type[Counted]) -> None:
    counted.doomed = 2
    assert call_all([(double, (number,)) for number in range(3)], 2) == [0, 2, 4]
    assert counted.made == 4


def test_workers_that_never_start_end_the_launch(counted: type[Counted]) -> None:
    counted.doomed = 1000
    with pytest.raises(ChildDied, match="ended by SIGKILL"):
        call_all([(double, (1,))], 1)
    assert counted.made == pool.STARTS


# -- orphans ----------------------------------------------------------------------------------------------------------
def bearing(tag: str) -> list[int]:
    """Processes with ``tag`` in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if tag in path.read_text():
                found.append(int(path.parent.name))
    return found


def kill_the_parent(store: Path, monkeypatch: pytest.MonkeyPatch, after: float) -> None:
    monkeypatch.setenv("GAUNTLET_TEST", tag := uuid.uuid4().hex)
    process = start("sweep", store, "sweep=fake", "threat.sleep=60", "jobs=4", quiet=True)
    while process.poll() is None and len(bearing(tag)) < 2:  # the first worker has just begun
        time.sleep(0.01)
    time.sleep(after)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while (left := bearing(tag)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"killed {after:.2f} s after the first worker's start"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(300)
def test_no_worker_outlives_a_sweep_that_is_killed_as_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for after in (0.0, 0.05, 0.3, 1.0):
        kill_the_parent(tmp_path, monkeypatch, after)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(1200)
def test_twenty_kills_within_two_seconds_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)
    for _ in range(20):
        kill_the_parent(tmp_path, monkeypatch, 2 * chance.random())


def test_a_process_whose_parent_is_gone_ends_at_once() -> None:
    line = "import os; from runners.sweep.worker_lifetime import end_with; end_with(os.getppid() + 1); print('alive')"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")


# -- time limits ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_limit_that_strikes_anywhere_leaves_only_records_that_say_so(command: Command, tmp_path: Path) -> None:
    arguments = ("sweep=fake", "seed=0", "defense=none", "threat=fake", "threat.adaptive=false,true")
    code, _, _ = command("sweep", *arguments, "time_limit=0.001", "cache=false")
    assert code == 1
    assert [(record["status"], record["reason"]) for record in records(tmp_path)] == [
        ("timeout", "stopped after time_limit=0.001 s")
    ] * 2


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "long"])
@pytest.mark.parametrize("name", ["run", "sweep"])
def test_a_limit_that_is_none_is_refused(command: Command, tmp_path: Path, name: str, limit: str) -> None:
    code, _, error = command(name, *(FAKE_CELL if name == "run" else ["sweep=fake"]), f"time_limit={limit}")
    assert code == 2 and len(error.splitlines()) == 1 and "time_limit must be a number of seconds above 0" in error
    assert records(tmp_path) == []


def played_within(limit: float, store: Path, *overrides: str) -> Played:
    cell = composed(*FAKE_CELL, f"store={store}", *overrides)
    return execute(replace(cell, options=replace(cell.options, time_limit=limit)), refuse=False)


@pytest.mark.ci
def test_a_limit_holds_in_any_thread(tmp_path: Path) -> None:
    cells: list[Played] = []
    thread = threading.Thread(target=lambda: cells.append(played_within(0.2, tmp_path, "threat.sleep=60")))
    thread.start()
    thread.join(60)
    assert [played.record.status for played in cells] == ["timeout"]


@pytest.mark.ci
def test_a_process_serves_one_cell_after_the_other_and_is_replaced_when_it_dies(tmp_path: Path) -> None:
    assert played_within(60, tmp_path).record.status == "ok"
    assert played_within(60, tmp_path, "seed=1").record.status == "ok"
    dead = played_within(60, tmp_path, "threat.does=die").record
    assert dead.status == "failed" and dead.reason.startswith("its process ended with exit code 9; if the system")
    assert played_within(60, tmp_path, "seed=2").record.status == "ok"


@contextmanager
def held(path: Path, seconds: float) -> Iterator[None]:
    """A neighbour that holds the lock ``path`` for a while."""
    lock = FileLock(path, thread_local=False)
    lock.acquire()
    timer = threading.Timer(seconds, lock.release)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.ci
def test_the_clock_stands_while_a_neighbour_builds_an_artifact(tmp_path: Path) -> None:
    data = str(played_within(60, tmp_path, "threat.risk=0.7").record.data)  # of another cell on the same artifact
    cell = composed(*FAKE_CELL)
    name = Cache(tmp_path, cell.config, "cpu", cell.targets()).on_data(data).name(VICTIM)
    assert (tmp_path / "cache" / name[:2] / f"{name}.safetensors").is_file()
    with held(lock_path(tmp_path, name), 4.0):
        record = played_within(3.0, tmp_path).record
    assert record.status == "ok" and record.seconds > 3.0


# -- a GPU that is lost -----------------------------------------------------------------------------------------------
@pytest.mark.ci
def test_an_error_that_stays_with_the_gpu_loses_no_record(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    ended: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    free = execution._free
    monkeypatch.setattr(execution, "_free", lambda device: free("cuda:0"))
    monkeypatch.setattr("runners.run.end_process", ended.append)
    command("run", "--multirun", *FAKE_CELL, "threat.does=fail")
    assert [record["status"] for record in records(tmp_path)] == ["failed"]
    assert len(ended) == 1 and "the GPU reported an error" in ended[0]


# -- jobs -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("jobs", ["0", "-2", "two", "1.5", "true"])
def test_jobs_are_a_number_of_workers(command: Command, jobs: str) -> None:
    code, _, error = command("sweep", "sweep=fake", f"jobs={jobs}")
    assert code == 2 and "jobs must be a whole number from 1 up" in error and len(error.splitlines()) == 1


# -- seeds played together --------------------------------------------------------------------------------------------
def test_cells_that_differ_in_the_seed_alone_are_batches() -> None:
    rows = [(threat, f"seed={seed}") for seed in range(3) for threat in ("threat=a", "threat=b")]
    assert _batches(rows, 1) == [[0], [1], [2], [3], [4], [5]]
    assert _batches(rows, 2) == [[0, 2], [1, 3], [4], [5]]
    assert _batches(rows, 5) == [[0, 2, 4], [1, 3, 5]]


ALIKE = ("sweep=fake", "threat=fake", "threat.adaptive=true", "defense=none")


@pytest.mark.ci
def test_seeds_played_together_give_the_records_of_those_alone(command: Command, tmp_path: Path) -> None:
    def numbers(*lines: str) -> dict[str, tuple[str, dict[str, float]]]:
        shutil.rmtree(tmp_path / "records", ignore_errors=True)
        assert command("sweep", *ALIKE, "threat.does=succeed,fail", *lines)[0] == 1
        return {record["key"]: (record["status"], record["risk"]) for record in records(tmp_path)}

    assert numbers("jobs=1", "together=2") == numbers("hydra/launcher=basic")


@pytest.mark.slow
def test_a_batch_whose_worker_dies_is_played_one_by_one(command: Command, tmp_path: Path) -> None:
    code, _, error = command("sweep", *ALIKE, "threat.does=succeed,die", "jobs=1", "together=2")
    assert code == 1 and "2 of 4 cells failed" in error
    assert sorted(record["status"] for record in records(tmp_path)) == ["failed", "failed", "ok", "ok"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("together=0",), "together must be a whole number from 1 up"),
        (("together=2", "hydra/launcher=basic"), "together=... is for hydra/launcher=local"),
        (("together=2", "jobs=1", "time_limit=9"), "A cell with a time limit is played alone"),
    ],
)
def test_what_cannot_be_played_together_is_refused(command: Command, lines: tuple[str, ...], reason: str) -> None:
    code, _, error = command("sweep", "sweep=fake", *lines)
    assert code == 2 and reason in error and len(error.splitlines()) == 1


# -- memory -----------------------------------------------------------------------------------------------------------
def test_short_memory_is_told() -> None:
    plan = Plan(memory=[900.0, 800.0, 100.0])
    assert memory_warning(plan, 2, 2000.0) is None and memory_warning(plan, 2, None) is None
    assert memory_warning(plan, 3, 1700.0) == (
        "Memory may be short: 3 such cells took up to 1.8 GB before, and 1.7 GB are free; jobs=2 would be safer."
    )
    assert "jobs=1 would" in str(memory_warning(plan, 3, 10.0))


def test_the_command_of_one_cell_is_one_that_run_takes(command: Command) -> None:
    lines = ("sweep=fake", *FAKE_CELL, "seed=0", "jobs=2", "together=2")
    assert Planned(composed(*FAKE_CELL), lines).command() == f"python -m runners.run {' '.join(FAKE_CELL)} seed=0"
