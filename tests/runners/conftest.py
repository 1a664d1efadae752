"""Fixtures and helpers that run the command line in this process and in others, with the cheap cells of ``fakes``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.cli import main as cli
from runners.config.compose import ComposedCell, cell_of
from tests.options import configured

ROOT = Path(__file__).resolve().parents[2]
SEARCH = (f"hydra.searchpath=[file://{ROOT}/tests/runners/conf]", "trusted=[tests.runners.]")
FAKE_CELL = ("dataset=fake", "model=fake", "setting=fake", "threat=fake")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Return ``command("run", *arguments)`` -> (exit code, stdout, stderr); the store is ``tmp_path``."""

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        if name == "sweep" and not any(line.startswith(("jobs=", "hydra/launcher=")) for line in arguments):
            arguments = (*arguments, "hydra/launcher=basic")  # no workers, whose start takes seconds
        monkeypatch.setenv("COLUMNS", "200")
        code = main(monkeypatch, name, *arguments, f"store={tmp_path}", *SEARCH)
        return code, *capfd.readouterr()

    return call


def main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Call ``gauntlet`` with these words in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gauntlet", *words])
    try:
        return cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)


def start(name: str, store: Path, *arguments: str, quiet: bool = False) -> subprocess.Popen[str]:
    """Start the command in a process of its own; ``quiet`` discards its output."""
    line = [sys.executable, "-m", f"runners.{name}", *arguments, f"store={store}", *SEARCH]
    sink = subprocess.DEVNULL if quiet else subprocess.PIPE
    return subprocess.Popen(line, cwd=ROOT, text=True, stdout=sink, stderr=sink)


def composed(*overrides: str) -> ComposedCell:
    """Compose a cell as ``runners.run`` does."""
    config = configured(*overrides, *SEARCH)
    return cell_of(config, config.hydra.runtime.choices)


def records(store: Path) -> list[dict[str, Any]]:
    """Return every record of a store; each must be a complete file."""
    return [json.loads(path.read_text()) for path in sorted(store.glob("records/*/*.json"))]
