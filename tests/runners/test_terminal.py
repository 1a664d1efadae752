"""Tests of the boards on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from runners.report import terminal
from runners.report.boards import build
from runners.report.source import compact
from tests.runners.synthetic import noise, record


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
