"""The boards as a terminal shows them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from runners.report import terminal
from tests.runners.synthetic import record, store


def shown(folder: Path, width: int) -> str:
    out = io.StringIO()
    terminal.show(Console(file=out, width=width), folder)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_name_or_number_is_cut_however_narrow_the_terminal(tmp_path: Path, width: int) -> None:
    records = [record(), record(defense="dp_sgd", risk=0.125, accuracy=0.75)]
    text = shown(store(tmp_path, records), width)
    assert "…" not in text
    assert "collaboration · digits · lenet · smoke" in text
    assert "0.125" in text and "75.0" in text
    assert max(map(len, text.splitlines())) <= width


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "gauntlet sweep sweep=demo" in shown(tmp_path, 80)
