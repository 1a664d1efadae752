from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from benchmark.libraries import Library
from benchmark.threats.evasion.libraries import Foolbox
from runners.config import catalogue
from runners.config.cells import Cells
from runners.config.compose import register
from runners.config.loader import SweepLoader
from runners.store.records import Store
from runners.sweep.plan import make_plan
from tests.runners.conftest import SEARCH, Command, composed, records, start

CELLS = 10  # of conf/sweep/fake.yaml, besides two that are refused


def numbers(store: Path) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
    return {record["key"]: (record["risk"], record["utility"]) for record in records(store)}


def stamps(store: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.glob("records/*/*.json")}


def test_a_sweep_runs_what_can_be_run_and_nothing_twice(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("sweep", "sweep=fake")
    assert code == 0
    assert f"{CELLS} │ to run" in out and "2 │ refused" in out
    assert "4 made, 6 reused" in out, "one artifact for each defense and seed"
    assert re.search(rf"{CELLS} of {CELLS} cells done in \d+ s; the first began after \d+ s\.", out)
    assert {record["status"] for record in records(tmp_path)} == {"ok"}
    assert {record["sweep"] for record in records(tmp_path)} == {"fake"}
    before = stamps(tmp_path)
    assert len(before) == CELLS
    code, out, _ = command("sweep", "sweep=fake")
    assert code == 0
    assert "0 │ to run" in out and f"{CELLS} │ finished" in out
    assert stamps(tmp_path) == before


@pytest.mark.ci
def test_a_failed_cell_stops_nothing_and_is_run_again(command: Command, tmp_path: Path) -> None:
    code, _, error = command("sweep", "sweep=fake", "threat.does=succeed,fail", "seed=0", "defense=none")
    assert code == 1
    assert sorted(record["status"] for record in records(tmp_path)) == ["failed"] * 3 + ["ok"] * 3
    assert "3 of 6 cells failed" in error and "ZeroDivisionError: told to fail" in error
    again = next(line for line in error.splitlines() if "python -m runners.run" in line)
    assert "threat.does=fail" in again and "hydra.searchpath" in again and "sweep=" not in again
    _, out, _ = command("plan", "sweep=fake", "threat.does=succeed,fail", "seed=0", "defense=none", "--json")
    plan = json.loads(out)
    assert (len(plan["to_run"]), len(plan["failed_before"]), len(plan["finished"])) == (3, 3, 3)
    assert plan["cost"]["cpu_hours"] > 0 and plan["cost"]["peak_memory_mb"] > 0


def test_arguments_replace_or_add_axes(command: Command) -> None:
    _, out, _ = command("plan", "sweep=fake", "seed=range(0,5)", "threat.adaptive=true", "threat.sleep=0,1", "--json")
    plan = json.loads(out)
    assert len(plan["to_run"]) == 5 * 2 * (2 + 1)
    assert sum(plan["refused"].values()) == 5 * 2
    assert all("threat.adaptive=True" in cell["overrides"] for cell in plan["to_run"])


def labels(command: Command, *arguments: str) -> tuple[set[str], list[str]]:
    """The cells of a plan and its notes."""
    code, out, error = command("plan", *arguments, "--json")
    assert code == 0, error
    plan = json.loads(out)
    return {cell["cell"] for cell in plan["to_run"]}, plan["notes"]


def test_a_parameter_of_a_component_that_is_replaced_falls_away() -> None:
    """A parameter stays that the component in its place has too, and so do all of a component that stays."""
    block: dict[str, Any] = {
        "dataset": "fake",
        "model": "fake",
        "setting": "fake",
        "threat": "fake",
        "seed": 0,
        "model.width": 3,
    }
    block |= {"threat.adaptive": [False, True], "threat.does": "fail"}
    block |= {"defense": ["gradient_noise"], "defense.gradient_noise.std": [0.1, 0.2]}
    register()
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("sweeps", ["sweep=fake", *SEARCH], return_hydra_config=True)
        config.sweep.blocks = [block]
        loader = SweepLoader(GlobalHydra.instance().config_loader())
        plan, threats = (
            make_plan(loader, config, [line, SEARCH[1]], Store(Path("nowhere")))
            for line in ("defense=none,gradient_noise,gradient_pruning", "threat=leakage_dlg")
        )
    cells = Counter(planned.cell.label.split(" on ")[0] for planned in plan.to_run)
    assert cells == {
        f"fake{form} vs {defense}": count
        for form in ("", " (adaptive)")
        for defense, count in (("none", 1), ("gradient_noise", 2), ("gradient_pruning", 1))
    }
    assert plan.notes[0].startswith("defense.gradient_noise.std of the blocks falls away where the command line")
    assert all(planned.cell.config["model"]["width"] == 3 for planned in plan.to_run)
    assert threats.notes[0].startswith("threat.does of the blocks falls away")
    assert {planned.cell.config["threat"]["adaptive"] for planned in threats.to_run} == {False, True}


@pytest.mark.ci
def test_a_filter_chooses_among_the_cells_of_a_sweep_and_adds_none(command: Command) -> None:
    whole, _ = labels(command, "sweep=fake")
    kept, notes = labels(command, "sweep=fake", "only.threat=fake_input")
    assert kept == {label for label in whole if label.startswith("fake_input ")} != set()
    assert len(notes) == 1 and notes[0].startswith("only.threat=fake_input keeps 4 of the sweep's 12 combinations")
    kept, notes = labels(command, "sweep=fake", "only.threat=fake,fake_input", "only.defense=[none]", "only.seed=1")
    assert kept == {label for label in whole if " none on " in label and label.endswith("seed 1")} and len(notes) == 3
    assert labels(command, "sweep=fake", "only.dataset=fake")[0] == whole


def test_the_plan_says_that_an_override_is_no_filter(command: Command) -> None:
    _, notes = labels(command, "sweep=fake", "seed=5", "threat.risk=0.1")
    assert notes == [
        "seed from the command line replaces what the blocks say, which may add cells; only.seed=... would only choose "
        "among theirs."
    ]


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ("only.threat=leakage_dlg", "No cell of the sweep has threat=leakage_dlg; there is fake, fake_input."),
        ("only.threat.sleep=3", "only.threat.sleep filters nothing: no block of the sweep sets threat.sleep."),
    ],
)
def test_a_filter_that_finds_nothing_is_a_mistake(command: Command, filter: str, words: str) -> None:
    code, _, error = command("plan", "sweep=fake", filter)
    assert (code, error.strip()) == (2, words)


def test_an_argument_may_be_null(command: Command) -> None:
    lines = ("threat=leakage_idlg", "setting.dirichlet_alpha=null", "defense=none", "model=lenet", "seed=0")
    code, out, error = command("plan", "sweep=demo", *lines, "--json")
    assert code == 0, error
    assert "setting.dirichlet_alpha=null" in json.loads(out)["to_run"][0]["overrides"]


def test_cells_that_share_an_artifact_are_kept_apart(command: Command) -> None:
    axes = ("threat=fake", "threat.adaptive=false", "threat.sleep=0,0.1,0.2")
    _, out, _ = command("plan", "sweep=fake", *axes, "--json")
    cells = [dict(line.split("=", 1) for line in cell["overrides"]) for cell in json.loads(out)["to_run"]]
    assert len(cells) == 2 * 2 * 3
    for one, other in itertools.pairwise(cells):
        assert (one["defense"], one["seed"]) != (other["defense"], other["seed"]), "a model would be waited for"
        assert one["threat.sleep"] != other["threat.sleep"], "what a threat prepares would be waited for"


def test_globs_and_stacks_expand(command: Command) -> None:
    cell = ("dataset=fake", "model=fake", "setting=fake", "seed=0")
    axes = ("threat=glob(leakage_control_*)", "defense=[none],[gradient_noise,gradient_clipping]")
    code, out, _ = command("run", "--multirun", *cell, *axes, "hydra.sweeper.plan_only=json")
    labels = [planned["cell"] for planned in json.loads(out)["to_run"]]
    assert code == 0
    controls = [option for option in catalogue.options("threat") if option.name.startswith("leakage_control_")]
    assert len(labels) == 2 * len(controls) > 2
    assert sum("vs gradient_noise+gradient_clipping on" in label for label in labels) == len(controls)


@pytest.mark.ci
def test_multirun_of_run_is_a_sweep_without_a_name(command: Command, tmp_path: Path) -> None:
    cell = ("dataset=fake", "model=fake", "setting=fake", "threat=fake")
    code, out, _ = command("run", "--multirun", *cell, "seed=0,1")
    assert code == 0
    assert "2 │ to run" in out
    assert [record["sweep"] for record in records(tmp_path)] == [None, None]


@pytest.mark.ci
def test_a_threat_belongs_to_the_first_block_that_has_it(command: Command) -> None:
    code, out, error = command("plan", "sweep=catalogue", "threat=leakage_rgap", "defense=none,krum", "--json")
    assert code == 0, error
    plan = json.loads(out)
    (cell,) = plan["to_run"]
    assert "threat.iterations=200" in cell["overrides"], "an argument picks the threat with its block's parameters"
    assert list(plan["refused"].values()) == [1]


def test_pairs_that_cannot_meet_are_not_composed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, ...]] = []
    cell = Cells.__call__
    monkeypatch.setattr(Cells, "__call__", lambda *given: made.append(given[1]) or cell(*given))  # type: ignore[func-returns-value]
    axes = ("threat=leakage_dlg,evasion_fgsm", "defense=none,krum,[gradient_noise,dp_sgd],logit_scaling", "seed=0,1")
    _, out, _ = command("run", "--multirun", *axes, "hydra.sweeper.plan_only=json")
    plan = json.loads(out)
    assert len(plan["to_run"]) == 2 * (2 + 2)
    assert sum(plan["refused"].values()) == 2 * (2 + 2)
    assert any("Krum changes aggregate" in reason for reason in plan["refused"])
    assert made and not [lines for lines in made if "defense=krum" in lines]


def test_a_cell_whose_library_is_absent_is_refused_with_the_command_that_installs_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Foolbox, "library", Library("extra", "nowhere", "gauntlet-nowhere"))
    monkeypatch.setattr("runners.sweep.judge.recall", lambda name: None)  # not what was found before
    monkeypatch.setattr("runners.sweep.judge.keep", lambda name, answer: None)
    code, out, _ = command("run", "--multirun", "threat=evasion_foolbox,evasion_pgd", "hydra.sweeper.plan_only=text")
    assert code == 0 and "1 │ to run" in out
    assert "1 │ refused: Foolbox needs gauntlet-nowhere, which is not installed: pip install -e '.[extra]'." in out


def test_a_record_carries_the_name_of_its_sweep_without_the_folder() -> None:
    assert composed("+sweep=papers/detectron").options.sweep == "detectron"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep=vicious",), "There is no sweep 'vicious'; did you mean papers/vicious?"),
        (("sweep=catalogue", "threat=fake"), "No block of the sweep has threat=fake"),
        (("sweep=fakee", "seed=0,1"), "There is no sweep 'fakee'; did you mean fake"),
        (("sweep=fake,demo",), "One sweep at a time"),
        (("sweep=fake", "threat=fake,faked"), "There is no threat 'faked'; did you mean fake"),
        (("sweep=fake", "seed=interval(0,1)"), "names no finite list of values"),
        (("sweep=fake", "threat=glob(nothing*)"), "matches nothing"),
        (("sweep=fake", "device=cuda:99"), "device=cuda:99, but this machine has"),
        (("sweep=fake", "threat.risk=x,1"), "threat.risk must be a number, got 'x'"),
    ],
)
def test_a_mistake_is_answered_before_anything_runs(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, _, error = command("sweep", *arguments)
    assert code == 2
    assert words in error
    assert records(tmp_path) == []


@pytest.mark.slow
def test_the_order_of_cells_changes_no_number(command: Command, tmp_path: Path) -> None:
    command("sweep", "sweep=fake", "seed=0,1")
    first = numbers(tmp_path)
    for path in tmp_path.glob("*/*/*"):
        path.unlink()
    for seed in ("1", "0"):
        command("sweep", "sweep=fake", "defense=gradient_noise,none", f"seed={seed}")
    assert numbers(tmp_path) == first


@pytest.mark.slow
def test_workers_give_the_same_numbers(command: Command, tmp_path: Path) -> None:
    command("sweep", "sweep=fake")
    elsewhere = tmp_path / "joblib"
    process = start("sweep", elsewhere, "sweep=fake", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert numbers(elsewhere) == numbers(tmp_path)


@pytest.mark.slow
def test_two_sweeps_on_one_store_play_each_cell_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_LOG", str(log))
    processes = [start("sweep", tmp_path, "sweep=fake", "threat.sleep=0.2") for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert log.read_text().count("played") == CELLS == len(records(tmp_path))


def workers(parent: int) -> list[int]:
    """Process ids of the workers of a sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and "runners.sweep.child" in (path / "cmdline").read_text():
                found.append(int(path.name))
    return found


def kill_and_finish(store: Path, victims: Sequence[str], seed: int) -> None:
    """Kill at random instants; check that all cells are there at the end, and none was played after it was recorded.

    Args:
        victims: ``basic``, the one process of a sweep; ``parent``, of a sweep with two workers; or ``worker``, one of
            the two, of which that sweep must not even stop.
    """
    arguments = ("sweep=fake", "threat.sleep=0.3")
    chance = random.Random(seed)
    before: dict[str, int] = {}
    for victim in victims:
        launcher = "basic" if victim == "basic" else "local"
        process = start("sweep", store, *arguments, f"hydra/launcher={launcher}", quiet=True)
        wait_for_a_record(process, store)
        time.sleep(chance.random() * 0.8)
        if victim == "worker":
            for unlucky in chance.sample(workers(process.pid), k=1) if process.poll() is None else ():
                os.kill(unlucky, signal.SIGKILL)
            wait_for_a_record(process, store)
        process.kill()
        process.wait()  # not communicate(): workers whose sweep died hold its pipes until they notice
        now = stamps(store)
        assert {name: now[name] for name in before} == before
        before = now
    process = start("sweep", store, *arguments, "hydra/launcher=basic")
    _, error = process.communicate()
    assert process.returncode == 0, error
    after = stamps(store)
    assert len(after) == CELLS
    assert {name: after[name] for name in before} == before
    assert {record["status"] for record in records(store)} == {"ok"}


def wait_for_a_record(process: subprocess.Popen[str], store: Path) -> None:
    """Wait until the sweep records one more cell, or ends."""
    known = len(records(store))
    while process.poll() is None and len(records(store)) == known < CELLS:
        time.sleep(0.02)


@pytest.mark.timeout(400)
# after the worker its sweep is killed too
@pytest.mark.parametrize("victim", [pytest.param("basic", marks=pytest.mark.ci), "worker"])
def test_a_killed_sweep_is_finished_by_the_same_command(tmp_path: Path, victim: str) -> None:
    kill_and_finish(tmp_path, [victim], seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 8))
def test_twenty_one_kills(tmp_path: Path, seed: int) -> None:
    kill_and_finish(tmp_path, ["basic", "worker", "parent"], seed)


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_workers_end_with_their_sweep(tmp_path: Path) -> None:
    process = start("sweep", tmp_path, "sweep=fake", "threat.sleep=60", "hydra/launcher=local")
    while process.poll() is None and len(list(tmp_path.glob("cache/locks/*"))) < 2:  # both are at work
        time.sleep(0.05)
    found = workers(process.pid)
    process.kill()
    process.communicate()  # returns when nobody holds the pipes any more
    assert len(found) == 2
    assert not [
        pid for pid in found if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text()
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cell_that_kills_its_worker_is_a_failed_row(tmp_path: Path) -> None:
    arguments = ("sweep=fake", "seed=0,1,2", "defense=none", "threat=fake", "threat.adaptive=false")
    process = start("sweep", tmp_path, *arguments, "threat.does=succeed,die", "hydra/launcher=local")
    _, error = process.communicate()
    assert process.returncode == 1
    assert "3 of 6 cells failed" in error and "its worker process died, twice" in error
    assert Counter(record["status"] for record in records(tmp_path)) == {"ok": 3, "failed": 3}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_a_process_out_of_memory_goes_on_with_the_next_cell(tmp_path: Path, launcher: str) -> None:
    arguments = ("sweep=fake", "seed=0,1", "defense=none", "threat=fake", "threat.adaptive=false")
    process = start("sweep", tmp_path, *arguments, "threat.does=allocate_all,succeed", f"hydra/launcher={launcher}")
    _, error = process.communicate()
    assert process.returncode == 1
    assert "2 of 4 cells failed" in error
    reasons = {record["status"]: record["reason"] for record in records(tmp_path)}
    assert reasons.keys() == {"ok", "failed"} and reasons["failed"].startswith("out of memory: lower the batch size")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the store of ``command``, on a file system with room for a handful of files."""
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip("no right to mount a small file system here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.ci
def test_a_full_disk_is_told_and_loses_nothing(command: Command, small_disk: Path) -> None:
    arguments = ("sweep=fake", "hydra/launcher=basic")
    code, _, error = command("sweep", *arguments)
    assert code == 1
    assert "could not be written: No space left on device" in error
    kept = stamps(small_disk)
    assert 0 < len(kept) < CELLS
    assert {record["status"] for record in records(small_disk)} == {"ok"}, "and each of them is whole"
    assert not [path for path in small_disk.rglob(".*") if path.is_file()], "no half files"
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    assert command("sweep", *arguments)[0] == 0
    after = stamps(small_disk)
    assert len(after) == CELLS
    assert {name: after[name] for name in kept} == kept


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("seed=range(0,1000000000000)", "names more than 1000000 values"),
        ("seed=shuffle(range(0,1000000000000))", "names more than 1000000 values"),
        ("threat.risk=range(0,inf)", "names more than 1000000 values"),
        ("threat.risk=range(-1e308,1e308,1e-300)", "names more than 1000000 values"),
        ("threat.risk=range(0,nan)", "names more than 1000000 values"),
        (f"seed=range(0,{'9' * 400})", "names more than 1000000 values"),
    ],
)
def test_a_range_without_end_is_a_mistake(command: Command, line: str, words: str) -> None:
    code, _, error = command("plan", "sweep=fake", line)
    assert code == 2 and words in error and "Traceback" not in error


def test_too_many_combinations_are_a_mistake(command: Command) -> None:
    code, _, error = command("plan", "sweep=fake", "seed=range(0,2000)", "threat.sleep=range(0,2000)")
    assert code == 2 and "has more than 1000000 cells" in error
