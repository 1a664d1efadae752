from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from runners.cli import main as cli
from runners.config import pairs as matrix
from runners.config import remembered as memory


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a class, for which an answer is remembered."""
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "benchmark" / "defenses" / "rounding.py"
    path.parent.mkdir(parents=True)
    path.write_text("class Rounding: ...\n")
    return path


def test_an_answer_is_remembered_until_a_class_changes(sources: Path) -> None:
    answers = iter(range(10))

    def ask() -> int:
        return memory.remembered("test", lambda: next(answers))

    assert [ask(), ask()] == [0, 0]
    sources.write_text("class Rounding:\n    def protect(self): ...\n")
    assert [ask(), ask()] == [1, 1], "its text changed"
    os.utime(sources, ns=(0, 0))
    assert ask() == 2, "it was written again"
    sources.with_name("another.py").touch()
    assert ask() == 3, "another class came"
    sources.unlink()
    assert ask() == 4, "one went"


def test_an_unreadable_answer_is_asked_for_again(sources: Path, tmp_path: Path) -> None:
    memory.remembered("test", lambda: 0)
    (kept,) = (tmp_path / "cache" / "gauntlet").iterdir()
    kept.write_text('{"sources": ')
    assert memory.remembered("test", lambda: 1) == 1


def test_without_a_home_the_temporary_folder_serves(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources))  # a file, in which nothing can be kept
    monkeypatch.setattr(memory.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    assert [memory.remembered("test", lambda: 0), memory.remembered("test", lambda: 1)] == [0, 0]
    assert list((tmp_path / "temporary").glob("*/test-*.json"))


def test_what_is_remembered_is_what_the_classes_say() -> None:
    asked, derived = matrix.ask(), matrix.derive()
    assert derived == asked
    assert {pair.reason is None for pair in derived.pairs()} == {True, False}
    assert len(derived.pairs()) == len(derived.places) * len(derived.hooks)


def test_threats_are_found_by_their_surface() -> None:
    derived = matrix.derive()
    assert "leakage_dlg" in derived.threats_on("collaboration", "uploads")
    assert set(derived.threats_on("collaboration", "uploads")) < set(derived.threats_on("collaboration"))
    assert derived.threats_on("nowhere") == []


def test_matrix_prints_who_meets_whom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gauntlet", "matrix", "--json"])
    assert cli.main() == 0
    told = json.loads(capsys.readouterr().out)
    reasons = {(pair["threat"], pair["defense"]): pair["reason"] for pair in told["pairs"]}
    assert reasons["leakage_dlg", "gradient_noise"] is None
    assert "Krum changes aggregate" in reasons["leakage_dlg", "krum"]
    console = Console(width=200, record=True)
    matrix.show(console, matrix.derive())
    text = console.export_text()
    assert "collaboration · uploads" in text and "gradient_noise (protect)" in text
    assert "leakage_analytic (needs model.first_layer=linear)" in text
