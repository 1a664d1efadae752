"""Boards on a terminal; and commands write to any terminal, and end quietly when nobody reads them any more."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runners.report import terminal
from runners.report.boards import build
from runners.report.source import compact
from tests.runners.conftest import ROOT, SEARCH
from tests.runners.synthetic import noise, record, store


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


@pytest.mark.parametrize("words", [("list",), ("table",), ("pack",), ("matrix", "--json"), ("plan", *SWEEP[1:])])
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
