from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runners import catalogue, cli
from tests.runners.conftest import FAKE_CELL, ROOT, Command, records


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gauntlet", *arguments])
    return cli.main()


def test_list_names_every_option_with_its_description(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "list", "threats") == 0
    out = capsys.readouterr().out
    for option in catalogue.options("threat"):
        assert option.name in out and option.description in out


def test_show_and_explain_take_the_beginning_of_a_key(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cell = ("threat=leakage_control_noise", "setting.rounds=1", "defense=[gradient_noise,gradient_clipping]", "seed=5")
    command("run", *cell, "defense.gradient_noise.std=0.25")
    (record,) = records(tmp_path)
    assert call(monkeypatch, "show", record["key"][:8], "--store", str(tmp_path)) == 0
    assert call(monkeypatch, "explain", record["key"][:8], "--store", str(tmp_path)) == 0
    out = capfd.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("command")]
    for part in ("seed=5", "setting.rounds=1", "defense.gradient_noise.std=0.25"):
        assert part in line
    code, out, _ = command("run", *[part.strip("'") for part in line.split()[4:]])
    assert code == 0
    assert record["key"] in out, "the command plays the same cell"


def test_an_unknown_key_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "show", "beef", "--store", str(tmp_path)) == 2
    assert "begins with 'beef'" in capsys.readouterr().err


def test_table_and_leaderboard_read_the_store(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command("run", *FAKE_CELL)
    store = ("--store", str(tmp_path))
    assert call(monkeypatch, "table", *store, "--query", "seed == 0") == 0
    assert records(tmp_path)[0]["key"][:8] in capfd.readouterr().out
    assert call(monkeypatch, "table", *store, "--write", str(tmp_path / "t")) == 0
    assert (tmp_path / "t.parquet").is_file() and (tmp_path / "t.csv").is_file()
    assert call(monkeypatch, "leaderboard", *store) == 0
    assert (tmp_path / "leaderboard" / "README.md").is_file()


def test_completion_answers_for_the_command_that_is_typed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", "gauntlet run threat=leakage_d")
    monkeypatch.setenv("COMP_POINT", "30")
    assert call(monkeypatch, "-sc", "query=bash") == 0
    assert "threat=leakage_dlg" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["show", "--help"]])
def test_reading_commands_do_not_import_torch(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["gauntlet", *{arguments!r}]
from runners import cli
try:
    cli.main()
except SystemExit:
    pass
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
