from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from runners.cli import main as cli
from runners.cli.difference import ABSENT, differences
from runners.config import catalogue
from runners.config.pairs import derive
from tests.runners.conftest import FAKE_CELL, ROOT, SEARCH, Command, records
from tests.runners.synthetic import noise, record, store


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
    (found,) = records(tmp_path)
    assert call(monkeypatch, "show", found["key"][:8], "--store", str(tmp_path)) == 0
    assert call(monkeypatch, "explain", found["key"][:8], "--store", str(tmp_path)) == 0
    out = capfd.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("command")]
    for part in ("seed=5", "setting.rounds=1", "defense.gradient_noise.std=0.25"):
        assert part in line
    code, out, _ = command("run", *[part.strip("'") for part in line.split()[4:]])
    assert code == 0
    assert found["key"] in out, "the command plays the same cell"


def test_an_unknown_key_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "records").mkdir()
    assert call(monkeypatch, "show", "beef", "--store", str(tmp_path)) == 2
    assert "begins with 'beef'" in capsys.readouterr().err


def test_table_and_leaderboard_read_the_store(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command("run", *FAKE_CELL)
    place = ("--store", str(tmp_path))
    assert call(monkeypatch, "table", *place, "--query", "seed == 0") == 0
    assert records(tmp_path)[0]["key"][:8] in capfd.readouterr().out
    assert call(monkeypatch, "table", *place, "--write", str(tmp_path / "t")) == 0
    assert (tmp_path / "t.parquet").is_file() and (tmp_path / "t.csv").is_file()
    assert call(monkeypatch, "leaderboard", *place) == 0
    assert (tmp_path / "boards" / "README.md").is_file()


def test_completion_answers_for_the_command_that_is_typed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", "gauntlet run threat=leakage_d")
    monkeypatch.setenv("COMP_POINT", "30")
    assert call(monkeypatch, "-sc", "query=bash") == 0
    assert "threat=leakage_dlg" in capfd.readouterr().out


def test_reading_commands_start_in_a_second(tmp_path: Path) -> None:
    """Run each command in a process of its own: check its output, its CPU time and which modules it does not import."""
    derive()  # what the classes say is remembered
    one, other = record(seed=0), record(seed=1)
    ours, theirs = store(tmp_path / "ours", [one]), store(tmp_path / "theirs", [other])
    place = ["--store", str(ours)]
    told = {
        "list": (["list", "threats"], "leakage_dlg"),
        "matrix": (["matrix", "--json"], "pairs"),
        "table": (["table", *place], one["key"][:8]),
        "show": (["show", one["key"][:8], *place], one["key"]),
        "cache": (["cache", *place], "in all"),
        "merge": (["merge", str(theirs), *place], "1 added"),
        "diff": (["diff", one["key"][:8], other["key"][:8], *place], "seed"),
        "help": (["--help"], "leaderboard"),
    }
    for name, (arguments, words) in told.items():
        code = (
            f"import sys; sys.argv = ['gauntlet', *{arguments!r}]\n"
            "from runners.cli import main as cli\n"
            "try:\n    code = cli.main()\nexcept SystemExit as stop:\n    code = stop.code\n"
            "sys.exit(code or {'torch', 'pandas'} & set(sys.modules) or None)"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert answer.returncode == 0, (name, answer.stderr)
        assert words in answer.stdout, name
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1, name


@pytest.mark.ci
def test_a_plan_of_known_components_does_not_import_torch(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cell = ("threat=leakage_labels", "defense=none,krum")
    _, before, _ = command("plan", "sweep=demo", *cell, "threat.adaptive=true", "seed=0", "--json")
    code = (
        f"import sys; sys.argv = ['gauntlet', 'plan', 'sweep=demo', *{cell!r}, 'threat.adaptive=true', 'seed=0',"
        f" '--json', 'store={tmp_path}']\n"
        "from runners.cli import main as cli\n"
        "sys.exit(cli.main() or 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    told, wanted = ([cell["key"] for cell in json.loads(out)["to_run"]] for out in (answer.stdout, before))
    assert told == wanted != []


# -- Tests of ``gauntlet diff`` and ``gauntlet again``: two records are compared, or one with its cell played anew
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


@pytest.mark.ci
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
