"""Tests of accepted numbers: a drift is caught, noise is not; missing numbers and changed sources are reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.errors import GauntletError
from runners.claims import baseline as accepted
from runners.claims.check import run, update
from tests.runners.conftest import Command
from tests.runners.synthetic import record, store
from tests.runners.test_claims import CLAIM, written

SEEDS = (0, 1, 2)


def checked(folder: Path, baseline: Path, scale: str | None = None) -> int:
    """Run the check without any claims of papers, and return its exit code."""
    reported = folder / "reported"
    reported.mkdir(exist_ok=True)
    return run(folder, reported=reported, baseline=baseline, scale=scale, system=None)


def spread(shift: float = 0.0, **more: Any) -> list[dict[str, Any]]:
    """Return records with risk 0.4, 0.5, 0.6 over the seeds."""
    return [record(risk=0.4 + 0.1 * seed + shift, seed=seed, **more) for seed in SEEDS]


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    assert update(store(tmp_path / "accepted", spread()), tmp_path / "baseline", scale=None) == 0
    return tmp_path / "baseline"


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"at_most": 0.8}, 0, "reproduced"),
        ({"at_most": 0.6}, 0, "undecided"),
        ({"at_most": 0.2}, 1, "contradicted"),
        ({"at_most": 0.2, "miss": "x"}, 0, "contradicted"),
        ({"at_most": 0.8, "must_fail": {"chance": 0.1}}, 1, "vacuous"),
        ({"at_most": 0.8, "cells": {"dataset": "digits"}}, 1, "ambiguous"),
    ],
)
def test_claims_at_fault_fail_and_a_verdict_is_told(
    tmp_path: Path, baseline: Path, fields: dict[str, Any], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {"dataset": "digits", "defense": "none"}
    base = CLAIM | {
        "scale": "smoke",
        "cells": cells,
        "kind": "headline",
        "sentence": "a",
        "must_fail": {"nothing": 2.0},
    }
    (tmp_path / "claims").mkdir()
    written(tmp_path / "claims", base | fields, abstract={"a": "It holds."})
    both = store(tmp_path / "now", [*spread(), *spread(defense="krum")])
    assert run(both, reported=tmp_path / "claims", baseline=baseline, scale=None, system="02") == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (0.05, 0), (-0.1, 0), (0.24, 0), (0.25, 1), (-0.4, 1)])
def test_a_drift_beyond_the_noise_is_outside(
    tmp_path: Path, baseline: Path, shift: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(store(tmp_path / "now", spread(shift)), baseline) == code
    assert ("Drifted" in capsys.readouterr().out) == bool(code)


def test_a_drift_of_utility_is_caught_as_well(tmp_path: Path, baseline: Path) -> None:
    assert checked(store(tmp_path / "now", spread(accuracy=0.6)), baseline) == 1


def test_fewer_seeds_are_given_more_room(tmp_path: Path, baseline: Path) -> None:
    assert checked(store(tmp_path / "now", spread(0.25)[1:2]), baseline) == 0


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([record(threat="another")], "2 not run"),
        ([record(status="failed", risk=None)], "2 not run"),
        ([record(scale="cpu")], "2 not run"),
    ],
)
def test_what_was_not_run_neither_passes_nor_fails(
    tmp_path: Path, baseline: Path, records: list[dict[str, Any]], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(store(tmp_path / "now", records), baseline) == 0
    assert said in capsys.readouterr().out


def test_without_accepted_numbers_it_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match="--update-baseline"):
        checked(store(tmp_path, [record()]), tmp_path / "none")


def test_one_scale_can_be_accepted_alone(tmp_path: Path, baseline: Path) -> None:
    now = store(tmp_path / "now", [*spread(0.3), *spread(scale="cpu")])
    update(now, baseline, scale="cpu")
    assert sorted(path.name for path in baseline.iterdir()) == ["cpu.json", "smoke.json"]
    assert checked(now, baseline, scale="cpu") == 0
    assert checked(now, baseline, scale="smoke") == 1


def versioned(version: int, **fields: Any) -> dict[str, Any]:
    defense = {"name": "gradient_noise", "provider": "benchmark", "std": 0.01, "version": version}
    made = record(defense=[defense], **fields)
    made["versions"] = {"components": {"defense/gradient_noise": {"version": version, "digest": "0" * 16}}}
    return made


def test_a_raised_version_does_not_take_a_number_out_of_the_check(tmp_path: Path) -> None:
    update(store(tmp_path / "accepted", [versioned(0, risk=0.5)]), tmp_path / "baseline", scale=None)
    now = store(tmp_path / "now", [versioned(0, risk=0.5), versioned(1, risk=0.9)])
    assert checked(now, tmp_path / "baseline") == 1


def test_changed_sources_are_told(tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(store(tmp_path / "now", [versioned(0, seed=5), versioned(1)]), baseline) == 0
    out = capsys.readouterr().out
    assert "moved on: defense/gradient_noise: VERSION 0 → VERSION 1 (1 records)" in out
    assert "source changed, VERSION not: defense/gradient_noise (1 records)" in out
    assert "hold no digest" not in out


def test_records_without_digests_are_told_in_one_line(
    tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [versioned(1, seed=seed) for seed in SEEDS]
    for one in records[:2]:
        one["versions"]["components"]["defense/gradient_noise"]["digest"] = None
    assert checked(store(tmp_path / "now", records), baseline) == 0
    out = capsys.readouterr().out
    assert "2 records hold no digest" in out
    assert "source changed, VERSION not: defense/gradient_noise (1 records)" in out


CELL = (
    *("threat=leakage_analytic", "model=mlp", "setting.rounds=1", "setting.victims=2"),
    *("defense=gradient_noise", "defense.gradient_noise.std=0.3"),
)


@pytest.mark.ci
def test_a_regression_planted_in_a_component_is_caught(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play() -> None:
        for path in tmp_path.glob("records/*/*.json"):
            path.unlink()
        for seed in (0, 1):
            assert command("run", *CELL, f"seed={seed}", "cache=false")[0] == 0

    baseline = tmp_path / "baseline"
    play()
    update(tmp_path, baseline, scale=None)
    play()
    assert checked(tmp_path, baseline) == 0, "the same code gives the same numbers"
    for path in tmp_path.glob("records/*/*.json"):
        noisy = json.loads(path.read_text())
        noisy["risk"]["ssim"] += 0.01 if noisy["seed"] else -0.01
        path.write_text(json.dumps(noisy))
    assert checked(tmp_path, baseline) == 0, "noise is no drift"

    def forgotten(self: GradientNoise, updates: Tensor, round: object) -> Tensor:
        return updates + 0 * torch.ones_like(updates)

    monkeypatch.setattr(GradientNoise, "protect", forgotten)
    play()
    assert checked(tmp_path, baseline) == 1, "a defense that forgot its noise is seen"


def test_the_accepted_numbers_of_the_repository_can_be_read() -> None:
    numbers = accepted.read(Path(__file__).parents[2] / "results" / "baseline")
    assert len({(number.cell, number.metric) for number in numbers}) == len(numbers)
