"""Tests of generated files: only files written before are ever deleted, and no symbolic link is followed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runners.report import output, terminal
from runners.report.boards import build
from runners.report.source import compact
from tests.runners.conftest import ROOT, SEARCH
from tests.runners.synthetic import noise, record, store


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_stale_files_go_and_files_of_others_stay(tmp_path: Path) -> None:
    output.write(tmp_path, {"a.md": "a", "deep/b.md": "b"})
    (tmp_path / "mine.md").write_text("mine")
    output.write(tmp_path, {"a.md": "a2"})
    assert names(tmp_path) == {"a.md", "mine.md", output.MANIFEST}
    assert (tmp_path / "a.md").read_text() == "a2"


def test_a_file_that_holds_its_content_already_is_left_alone(tmp_path: Path) -> None:
    (path,) = output.write(tmp_path, {"a.md": "a"})
    before = path.stat().st_ino
    output.write(tmp_path, {"a.md": "a"})
    assert path.stat().st_ino == before


def test_no_link_is_followed_to_delete(tmp_path: Path) -> None:
    folder, precious = tmp_path / "boards", tmp_path / "precious"
    output.write(folder, {"deep/b.md": "b", "a.md": "a"})
    precious.mkdir()
    (precious / "b.md").write_text("precious")
    (folder / "deep" / "b.md").unlink()
    (folder / "deep").rmdir()
    (folder / "deep").symlink_to(precious)
    (folder / "a.md").unlink()
    (folder / "a.md").symlink_to(precious / "b.md")
    output.write(folder, {})
    assert (precious / "b.md").read_text() == "precious"
    assert (folder / "a.md").is_symlink()


def test_a_folder_that_is_a_link_loses_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a.html").write_text("precious")
    (precious / output.MANIFEST).write_text(json.dumps(["a.html"]))
    (tmp_path / "site").symlink_to(precious)
    output.write(tmp_path / "site", {"b.html": "b"})
    assert (precious / "a.html").read_text() == "precious"


@pytest.mark.parametrize("listed", ['["../precious", "/precious", ""]', "{}", "no json", '[{"a": 1}]'])
def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path, listed: str) -> None:
    folder = tmp_path / "boards"
    folder.mkdir()
    (tmp_path / "precious").write_text("precious")
    (folder / output.MANIFEST).write_text(listed)
    output.write(folder, {"a.md": "a"})
    assert (tmp_path / "precious").read_text() == "precious"


def test_pictures_are_copied_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    (path,) = output.write(tmp_path / "site", {"media/a.png": tmp_path / "a.png"})
    before = path.stat().st_ino
    output.write(tmp_path / "site", {"media/a.png": tmp_path / "a.png"})
    assert path.read_bytes() == b"one" and path.stat().st_ino == before
    (tmp_path / "a.png").write_bytes(b"other")
    output.write(tmp_path / "site", {"media/a.png": tmp_path / "a.png"})
    assert path.read_bytes() == b"other"


@pytest.mark.parametrize("name", ["\x00", "a/\x00", "x" * 400])
def test_a_name_that_no_file_can_have_is_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / output.MANIFEST).write_text(json.dumps([name, "stale.html"]))
    (tmp_path / "stale.html").write_text("old")
    assert output.write(tmp_path, {"index.html": "new"}) == [tmp_path / "index.html"]
    assert not (tmp_path / "stale.html").exists()


# -- Boards on a terminal; and commands write to any terminal, and end quietly when nobody reads them any more
def shown(records: list[dict[str, Any]], width: int) -> str:
    out = io.StringIO()
    terminal.show(Console(file=out, width=width), build(list(compact(records))))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_name_or_number_is_cut_however_narrow_the_terminal(width: int) -> None:
    records = [record(), record(defense="dp_sgd", risk=0.125, accuracy=0.75)]
    text = shown(records, width)
    assert "…" not in text
    assert "collaboration · digits · lenet · smoke" in text
    assert "0.125" in text and "75.0" in text
    assert max(map(len, text.splitlines())) <= width


def test_an_empty_store_says_how_to_fill_it() -> None:
    assert "gauntlet sweep sweep=demo" in shown([], 80)


def test_brackets_of_labels_are_no_markup() -> None:
    bold = [noise(0.1) | {"how": "[bold]"}]
    assert "how=[bold]" in shown([record(), record(defense=bold), record(defense=[noise(0.2)])], 140)


ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
SWEEP = ("sweep", "sweep=fake", *SEARCH)


def gauntlet(*words: str | Path, **options: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "runners.cli.main", *map(str, words)]
    return subprocess.Popen(line, cwd=ROOT, text=True, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.parametrize("variables", ASCII, ids=lambda variables: next(iter(variables)))
@pytest.mark.parametrize("words", [("matrix",), ("plan", *SWEEP[1:]), SWEEP], ids=lambda words: words[0])
def test_a_terminal_without_utf_8_gets_escapes(
    tmp_path: Path, words: tuple[str, ...], variables: dict[str, str]
) -> None:
    place = [f"store={tmp_path}"] if "sweep=fake" in words else []
    process = gauntlet(*words, *place, stdout=subprocess.PIPE, env={**os.environ, **variables})
    out, error = process.communicate()
    assert "Traceback" not in error and (process.returncode, out.isascii()) == (0, True), error
    if words == ("matrix",):
        assert r"collaboration \xb7 uploads" in out


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("table",),
        ("pack",),
        ("matrix", "--json"),
        pytest.param(("plan", *SWEEP[1:]), marks=pytest.mark.ci),
    ],
)
def test_a_reader_that_is_gone_ends_a_command_quietly(tmp_path: Path, words: tuple[str, ...]) -> None:
    ones = [record(seed=seed) for seed in range(3)]
    there = store(tmp_path / "store", ones)
    place = {"table": ["--store", there], "pack": [there, "--into", there], "plan": [f"store={there}"]}
    reading, writing = os.pipe()
    os.close(reading)
    process = gauntlet(*words, *place.get(words[0], []), stdout=writing)
    os.close(writing)
    _, error = process.communicate()
    assert error == "" and process.returncode == (1 if words[0] == "plan" else 141), "1 is what rich says"
    if words == ("pack",):  # its work is done by then
        assert list(there.glob("records/*.parquet"))
