"""Commands write to any terminal, and end quietly when nobody reads them any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runners.conftest import ROOT, SEARCH
from tests.runners.synthetic import record, store

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
