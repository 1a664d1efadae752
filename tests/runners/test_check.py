"""Accepted numbers: a drift is caught, noise is not, and what was not run is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import GauntletError
from runners.check import run, update
from tests.runners.synthetic import record, store

SEEDS = (0, 1, 2)


def compare(store: Path, baseline: Path, *, scale: str | None) -> int:
    """The check without any claims of papers."""
    reported = store / "reported"
    reported.mkdir(exist_ok=True)
    return run(store, reported=reported, baseline=baseline, scale=scale, system=None)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """Risk 0.5 with a spread of 0.1 over seeds."""
    folder = store(tmp_path / "accepted", [record(risk=0.4 + 0.1 * seed, seed=seed) for seed in SEEDS])
    assert update(folder, tmp_path / "accepted.json", scale=None) == 0
    return tmp_path / "accepted.json"


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (0.05, 0), (-0.1, 0), (0.45, 1), (-0.4, 1)])
def test_a_drift_beyond_the_noise_is_outside(
    tmp_path: Path, baseline: Path, shift: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    now = store(tmp_path / "now", [record(risk=0.4 + 0.1 * seed + shift, seed=seed) for seed in SEEDS])
    assert compare(now, baseline, scale=None) == code
    assert ("outside: " in capsys.readouterr().out) == bool(code)


def test_a_drift_of_utility_is_caught_as_well(tmp_path: Path, baseline: Path) -> None:
    now = store(tmp_path / "now", [record(risk=0.4 + 0.1 * seed, accuracy=0.6, seed=seed) for seed in SEEDS])
    assert compare(now, baseline, scale=None) == 1


def test_what_was_not_run_neither_passes_nor_fails(
    tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = store(tmp_path / "now", [record(threat="another")])
    assert compare(now, baseline, scale=None) == 0
    assert "0 inside, 0 outside, 2 not run" in capsys.readouterr().out


def test_failed_cells_are_not_numbers(tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = store(tmp_path / "now", [record(status="failed", risk=None)])
    assert compare(now, baseline, scale=None) == 0
    assert "2 not run" in capsys.readouterr().out


def test_without_accepted_numbers_it_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match="--update-baseline"):
        compare(store(tmp_path, [record()]), tmp_path / "none.json", scale=None)
