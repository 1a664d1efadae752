"""Tests of timing hot paths: only a path that agrees with its reference and its peer is timed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ConfigError
from runners import bench
from runners.bench import accepted, evasion_jobs, jobs
from runners.cli import main as cli
from tests.accelerator.pretended_device import PretendedDevice
from tests.runners.conftest import ROOT


def path(fast: float = 1.0, **other: Any) -> Callable[[], bench.HotPath]:
    apart = lambda a, b: abs(a - b)  # noqa: E731
    return lambda: bench.HotPath(lambda: fast, lambda: 1.0, 1e-3, "nothing", apart, **other)


def peer(value: float, package: str = "json") -> bench.Peer:
    return bench.Peer(package, lambda: lambda: value, 0.1, lambda a, b: abs(a - b))


@pytest.mark.ci
def test_a_path_is_timed_against_its_oracle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run_all(["inversion_1"], bench.HOT_PATHS, tmp_path)
    stored = json.loads((tmp_path / "bench.json").read_text())
    (result,) = stored["paths"]
    assert result["plain_over_fast"] == result["plain_seconds"] / result["fast_seconds"]
    assert result["repeats"] >= 5
    assert stored["machine"]["threads"] == 1
    assert "inversion" in capsys.readouterr().out


def test_a_fast_path_that_is_wrong_is_not_timed() -> None:
    for wrong in (2.0, float("nan")):
        with pytest.raises(AssertionError, match="fast and plain differ by"):
            bench.measure("wrong", path(wrong)())


def test_a_peer_is_timed_where_it_agrees() -> None:
    result = bench.measure("it", path(peer=peer(1.05))())
    assert result["peer_over_fast"] == result["peer_seconds"] / result["fast_seconds"]
    with pytest.raises(AssertionError, match="fast and json differ by 1"):
        bench.measure("it", path(peer=peer(2.0))())


def test_a_peer_that_is_not_installed_is_said_to_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run_all([], {"it": path(peer=peer(1.0, "no_such_library"))}, tmp_path)
    assert "no_such_library not installed" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "bench.json").read_text())["paths"]
    assert result["peer"] == "no_such_library" and "peer_over_fast" not in result


def job(package: str = "json", value: float = 1.0, **other: Any) -> bench.HotPath:
    """Return a path without a plain form."""
    return bench.HotPath(lambda: 1.0, None, 0.0, "nothing", peer=peer(value, package), **other)


def test_a_job_is_held_against_its_peer_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run_all([], {"it": job, "alone": lambda: job("no_such_library")}, tmp_path)
    held, alone = json.loads((tmp_path / "bench.json").read_text())["paths"]
    assert held["peer_over_fast"] == held["peer_seconds"] / held["fast_seconds"]
    assert alone["fast_seconds"] > 0 and "peer_over_fast" not in alone
    assert not any("plain" in key for result in (held, alone) for key in result)
    out = capsys.readouterr().out
    assert "no_such_library not installed" in out and "plain" not in out
    with pytest.raises(AssertionError, match="fast and json differ by 1"):
        bench.measure("it", job(value=2.0))


def test_a_path_is_held_against_something() -> None:
    with pytest.raises(ValueError, match="needs a plain form or a peer"):
        bench.HotPath(lambda: 1.0, None, 0.0, "nothing")


def test_a_job_without_a_plain_form_has_no_ratio_to_accept(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    with pytest.raises(ConfigError, match="it has no plain form"):
        bench.accept(["it"], {"it": job}, file)
    assert not file.exists()


def test_a_job_is_repeated_as_often_as_it_says() -> None:
    assert bench.measure("it", job(repeats=2), at_least=0.0)["repeats"] == 2
    assert bench.measure("it", job(), at_least=0.0)["repeats"] == 5
    assert bench.measure("it", job(repeats=2), repeats=3, at_least=0.0)["repeats"] == 3


def test_waiting_counts_by_the_clock_alone() -> None:
    waiting = bench.HotPath(lambda: time.sleep(0.02), lambda: None, 0.0, "nothing", lambda *_: 0.0)
    result = bench.measure("it", waiting, repeats=1, at_least=0.0)
    assert result["fast_seconds"] < 0.02 <= result["fast_wall_seconds"]


def test_an_unknown_path_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="inversion_1, .*federated_round"):
        bench.run_all(["inversion_1", "nothing"], bench.HOT_PATHS, tmp_path)


def test_help_lists_the_paths(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gauntlet", "bench", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    out = capsys.readouterr().out
    for name, build in bench.HOT_PATHS.items():
        assert name in out
        assert build.__doc__ and build.__doc__.splitlines()[0] in out


def spin(seconds: float) -> Callable[[], float]:
    """Return a call that takes so much CPU time."""

    def run() -> float:
        begun = time.process_time()
        while time.process_time() - begun < seconds:
            pass
        return 1.0

    return run


@pytest.mark.ci
def test_a_path_that_lost_its_lead_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apart = lambda a, b: abs(a - b)  # noqa: E731
    lead = {"it": lambda: bench.HotPath(spin(5e-4), spin(2e-3), 0, "nothing", apart, peer(9.0))}
    lost = {"it": lambda: bench.HotPath(spin(1e-3), spin(2e-3), 0, "nothing", apart)}
    file = tmp_path / "bench.json"
    with pytest.raises(ConfigError, match="no accepted ratios"):
        bench.check(lead, file)
    bench.accept(["it"], lead, file)
    assert bench.check(lead, file) == 0
    assert bench.check(lost, file) == 1
    assert "it: less than 0.8 of the accepted ratio" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no hot path 'that'"):
        bench.accept(["that"], lead, file)
    with pytest.raises(ConfigError, match="'it', which there is not"):
        bench.check({}, file)


def test_a_path_that_seems_slow_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([1.0, 2.5, 3.0])
    monkeypatch.setattr(accepted, "measure", lambda *_, **__: {"plain_over_fast": next(found)})
    assert accepted.ratio("it", path()(), 2.0) == 2.5
    assert accepted.ratio("it", path()(), 2.0) == 3.0


def test_what_ci_measures_is_accepted() -> None:
    known = accepted.read(ROOT / accepted.ACCEPTED)
    assert all({*ratios} == {*bench.QUICK} for ratios in known.values())
    lowest = accepted.expected(known, "another processor")
    assert all(lowest[name] <= ratios[name] for ratios in known.values() for name in bench.QUICK)
    (here, *_) = known
    assert accepted.expected(known, here) == known[here]
    assert {bench.HOT_PATHS[name].__module__ for name in bench.QUICK} == {family.__name__ for family in bench.FAMILIES}


@pytest.mark.parametrize("name", bench.HOT_PATHS)
def test_a_path_states_its_floor_and_a_job_what_it_compares(name: str) -> None:
    jobs = {family.__name__ for family in bench.JOBS}
    stated = "Compares " if bench.HOT_PATHS[name].__module__ in jobs else "Floor: "
    assert stated in (bench.HOT_PATHS[name].__doc__ or "")


def test_shadow_models_of_both_forms_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, smaller in {"PEOPLE": 40, "SHADOWS": 4, "SHADOW_EPOCHS": 2}.items():
        monkeypatch.setattr(jobs, constant, smaller)
    small = jobs.job_shadow_membership()
    scores = small.fast()
    assert len(scores) == 40 and scores.std() > 0
    assert small.plain is not None and small.difference(scores, small.plain()) <= small.tolerance


def test_a_poisoned_job_is_poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ROUNDS", 3)
    poisoned = jobs.job_poisoning().fast()
    monkeypatch.setattr(jobs, "TAU", -1.0)  # malicious parties upload the honest mean
    assert (poisoned.weights - jobs.job_poisoning().fast().weights).norm() > 1e-3


@pytest.mark.crosscheck
@pytest.mark.parametrize("name", [name for family in bench.JOBS for name in family.PATHS])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_job_agrees_with_its_peer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, smaller in {"ROUNDS": 10, "SHADOW_EPOCHS": 2}.items():
        monkeypatch.setattr(jobs, constant, smaller)
    for constant, smaller in {"IMAGES": 40, "STEPS": 20, "SEARCHES": 2}.items():
        monkeypatch.setattr(evasion_jobs, constant, smaller)
    path = bench.HOT_PATHS[name]()
    if path.peer is not None:
        pytest.importorskip(path.peer.package, reason="pip install -e .[bench]")
    bench.measure(name, path, repeats=1, at_least=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.HOT_PATHS)
def test_a_path_computes_on_its_device(name: str) -> None:
    with PretendedDevice() as device:
        path = bench.HOT_PATHS[name]("cuda")
        path.fast()
        if path.plain is not None:
            path.plain()
    assert not device.faults, {f"{fault.place}: {fault.message}" for fault in device.faults}
    assert device.kernels > 10
