"""Tests of ``gauntlet diff`` and ``gauntlet again``: two records are compared, or one with its cell played anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.cli import main as cli
from runners.cli.difference import ABSENT, differences
from tests.runners.conftest import FAKE_CELL, SEARCH, Command, records
from tests.runners.synthetic import noise, record, store


def test_a_record_does_not_differ_from_itself() -> None:
    assert not any(differences(record(), record()).values())


def test_cell_code_and_numbers_are_told_apart() -> None:
    one = record(defense=[noise(0.1)], risk=0.5)
    other = record(defense=[noise(0.2)], risk=0.75, cost={"epsilon": 1.0}) | {"versions": {"torch": "3"}}
    found = differences(one, other)
    assert found["cell"] == [("defense.gradient_noise.std", 0.1, 0.2)]
    assert found["code and machine"] == [("versions.torch", ABSENT, "3")]
    assert found["result"] == [("cost.epsilon", ABSENT, 1.0), ("risk.ssim", 0.5, 0.75)]


def test_diff_takes_the_beginnings_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [record(risk=0.5), record(risk=0.75, seed=1)]
    store(tmp_path, two)
    monkeypatch.setenv("COLUMNS", "120")
    keys = [one["key"][:10] for one in two]
    monkeypatch.setattr("sys.argv", ["gauntlet", "diff", *keys, "--store", str(tmp_path)])
    assert cli.main() == 0
    out = capsys.readouterr().out
    assert "+0.25" in out and "seed" in out and "The same code and machine." in out


def test_a_cell_is_played_again_and_compared(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command("run", *FAKE_CELL, "threat.risk=0.25", "seed=3")
    (before,) = records(tmp_path)
    monkeypatch.setattr("sys.argv", ["gauntlet", "again", before["key"][:12], *SEARCH, "--store", str(tmp_path)])
    assert cli.main() == 0
    out = capfd.readouterr().out
    assert "The same cell." in out and "threat.risk=0.25" in out and "seed=3" in out
    assert "risk." not in out.split("A is the record")[1], "the same numbers"
    assert records(tmp_path) == [before], "the store stays as it is"
