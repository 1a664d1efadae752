"""Cells of a reduced precision on the command line, in stores and on boards: others than those of full precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from runners.claims.claim_evaluation import groups_of, matching
from runners.cli.explain import command as explained
from runners.report.boards import build
from runners.report.source import compact
from runners.store import table
from runners.store.pack import pack
from runners.store.records import Store
from tests.runners.conftest import FAKE_CELL, Command, composed, records
from tests.runners.synthetic import keyed, record, store


def reduced(one: Mapping[str, Any], precision: str = "bf16") -> dict[str, Any]:
    return keyed({**one, "config": {**one["config"], "precision": precision}})


# -- commands
def test_it_is_set_on_the_command_line_and_told_in_the_record(command: Command, tmp_path: Path) -> None:
    for line in ((), ("precision=bf16",)):
        code, out, _ = command("run", *FAKE_CELL, *line)
        assert code == 0 and ("in bf16" in out) is bool(line)
    assert sorted(one["config"].get("precision", "") for one in records(tmp_path)) == ["", "bf16"]
    assert len(list(tmp_path.glob("cache/*/*.safetensors"))) == 2, "they share no model"


@pytest.mark.ci
def test_a_sweep_has_it_as_an_axis(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("sweep", *FAKE_CELL, "precision=full,bf16", "~sweep")
    assert code == 0, out
    assert sorted(one["config"].get("precision", "") for one in records(tmp_path)) == ["", "bf16"]


def test_the_help_names_it(command: Command) -> None:
    _, out, _ = command("run", "--help")
    assert "python -m runners.run precision=bf16" in out and "precision: full" in out


@pytest.mark.parametrize("name", ["run", "sweep"])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("half", "precision must be full, tf32 or bf16, got 'half'."),
        ("tf32", "precision=tf32 needs a GPU of compute capability 8.0 (Ampere) or later, and the device is cpu; use"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    command: Command, tmp_path: Path, name: str, value: str, sentence: str
) -> None:
    cells = FAKE_CELL if name == "run" else ("sweep=fake", "seed=0", "defense=none")
    code, _, err = command(name, *cells, f"precision={value}", "device=cpu")
    assert code == 2 and sentence in err and "Traceback" not in err
    assert not records(tmp_path)


def test_a_gpu_that_lacks_tf32_is_refused_before_the_sweep_begins(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.sweep.sweep.resolve_device", lambda _: "cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    code, _, err = command("sweep", *FAKE_CELL, "precision=tf32", "~sweep")
    assert code == 2 and "the device is cuda:0" in err and not records(tmp_path)


def test_the_command_of_a_record_says_it() -> None:
    made = composed("threat=leakage_dlg", "precision=bf16")
    shell, changed = explained(made.config)
    assert "precision=bf16" in shell.split() and not changed
    assert "precision" not in explained(composed("threat=leakage_dlg").config)[0]


# -- tables, boards and claims
def test_it_is_shown_with_the_model_and_survives_packing(tmp_path: Path) -> None:
    pair = [record(), reduced(record())]
    loose = table.load(store(tmp_path / "one", pair))
    assert loose["model_label"].tolist() == ["lenet", "lenet · bf16"] and loose["model"].tolist() == ["lenet"] * 2
    pack(Store(tmp_path / "one"), Store(tmp_path / "two"))
    packed = {one["key"]: one["config"] for one in Store(tmp_path / "two").all("key", "config")}
    assert packed == {one["key"]: one["config"] for one in pair}


def test_precisions_meet_in_no_row_and_are_not_compared() -> None:
    full = [record(seed=seed, risk=0.9) for seed in (0, 1)]
    half = [reduced(record(defense="dp_sgd", seed=seed, risk=0.2)) for seed in (0, 1)]
    (board,) = build(list(compact([*full, *half])))
    assert [section.title for section in board.sections] == [
        "collaboration · digits · lenet · smoke",
        "collaboration · digits · lenet · bf16 · smoke",
    ]
    assert [[row.defense for row in section.rows] for section in board.sections] == [["none"], ["dp_sgd"]]
    assert board.sections[1].rows[0].price is None


def test_no_undefended_run_of_another_precision_stands_in() -> None:
    bare = record() | {"sweep": "other"}
    for own, count in ((record(defense="krum"), 2), (reduced(record(defense="krum")), 1)):
        board = next(board for board in build(list(compact([bare, own]))) if board.name == "test")
        assert len(board.sections[0].rows) == count


def test_no_claim_is_answered_by_a_reduced_precision() -> None:
    found, _ = matching("smoke", {"threat": "leakage_dlg"}, groups_of([record(), reduced(record())]))
    assert ["precision" in group.config for group in found] == [False]
    assert matching("smoke", {}, groups_of([reduced(record())])) == ([], "no record of scale=smoke")
