"""Tests of ``gauntlet again``: a record's cell is played anew and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.cli import main as cli
from tests.runners.conftest import FAKE_CELL, SEARCH, Command, records


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
