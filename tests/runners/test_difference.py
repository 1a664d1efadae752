from __future__ import annotations

from pathlib import Path

import pytest

from runners.cli.difference import ABSENT, differences
from runners.cli import main as cli
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
    records = [record(risk=0.5), record(risk=0.75, seed=1)]
    store(tmp_path, records)
    monkeypatch.setenv("COLUMNS", "120")
    keys = [one["key"][:10] for one in records]
    monkeypatch.setattr("sys.argv", ["gauntlet", "diff", *keys, "--store", str(tmp_path)])
    assert cli.main() == 0
    out = capsys.readouterr().out
    assert "+0.25" in out and "seed" in out and "The same code and machine." in out
