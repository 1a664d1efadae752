from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from runners.store import table
from tests.runners.synthetic import noise, record, store


def test_a_row_a_record_with_names_numbers_and_facts(tmp_path: Path) -> None:
    frame = table.load(store(tmp_path, [record(risk=0.9, accuracy=0.95, cost={"epsilon": 3.0})]))
    row = frame.iloc[0]
    assert (row["dataset"], row["model"], row["setting"]) == ("digits", "lenet", "collaboration")
    assert (row["threat"], row["defense"], row["scale"], row["seed"]) == ("leakage_dlg", "none", "smoke", 0)
    assert (row["headline"], row["headline_value"], row["floor_at_least"]) == ("ssim", 0.9, 0.5)
    assert (row["utility_metric"], row["utility.test_accuracy"], row["cost.epsilon"]) == ("test_accuracy", 0.95, 3.0)
    assert not row["adaptive"]


def test_a_failed_record_is_a_row(tmp_path: Path) -> None:
    frame = table.load(store(tmp_path, [record(), record(seed=1, status="failed")]))
    assert list(frame["status"]) == ["ok", "failed"]
    assert frame["headline_value"].isna().tolist() == [False, True]


def test_an_empty_store_gives_an_empty_table(tmp_path: Path) -> None:
    frame = table.load(tmp_path)
    assert frame.empty and "threat_label" in frame.columns


def test_order_depends_on_the_records_alone(tmp_path: Path) -> None:
    records = [record(defense=name, seed=seed) for name in ("none", "dp_sgd") for seed in (1, 0)]
    one, other = store(tmp_path / "a", records), store(tmp_path / "b", records[::-1])
    pd.testing.assert_frame_equal(table.load(one), table.load(other))


def test_labels_show_only_what_differs(tmp_path: Path) -> None:
    frame = table.load(store(tmp_path, [record(defense=[noise(0.1)]), record(defense=[noise(0.2)]), record()]))
    assert set(frame["defense_label"]) == {"none", "gradient_noise (std=0.1)", "gradient_noise (std=0.2)"}
    assert set(frame["threat_label"]) == {"leakage_dlg"}
    assert set(frame["setting_label"]) == {"collaboration"}


def test_a_stack_is_named_in_its_order(tmp_path: Path) -> None:
    clip = {"name": "gradient_clipping", "provider": "d", "max_norm": 1.0, "version": 1}
    frame = table.load(store(tmp_path, [record(defense=[clip, noise(0.1)]), record(defense=[noise(0.2)])]))
    assert set(frame["defense"]) == {"gradient_clipping+gradient_noise", "gradient_noise"}
    assert set(frame["defense_label"]) == {"gradient_clipping + gradient_noise (std=0.1)", "gradient_noise (std=0.2)"}


def test_values_that_differ_with_scale_or_dataset_are_no_clutter(tmp_path: Path) -> None:
    records = [
        record(threat_parameters={"iterations": 10}),
        record(threat_parameters={"iterations": 99}, scale="cpu", dataset={"sizes": {"owner": 4000}}),
        record(threat_parameters={"iterations": 50}, dataset={"name": "mnist"}),
    ]
    frame = table.load(store(tmp_path, records))
    assert set(frame["threat_label"]) == {"leakage_dlg"}
    assert set(frame["dataset_label"]) == {"digits", "mnist"}


def test_nested_and_partly_absent_parameters_and_versions_tell_records_apart(tmp_path: Path) -> None:
    records = [
        record(dataset={"sizes": {"owner": 700}}),
        record(dataset={"sizes": {"owner": 300}}),
        record(threat_parameters={"observations": 7}),
        record(setting={"version": 2}),
    ]
    frame = table.load(store(tmp_path, records))
    assert set(frame["dataset_label"]) == {"digits", "digits (sizes.owner=300)"}, "the usual goes without saying"
    assert set(frame["threat_label"]) == {"leakage_dlg", "leakage_dlg (observations=7)"}
    assert set(frame["setting_label"]) == {"collaboration", "collaboration (version=2)"}


def test_the_adaptive_form_has_a_mark_instead_of_a_parameter(tmp_path: Path) -> None:
    frame = table.load(store(tmp_path, [record(), record(adaptive=True)]))
    assert list(frame["threat_label"]) == ["leakage_dlg", "leakage_dlg · adaptive"]


@pytest.mark.parametrize("content", ["{", "[1]", "null", '{"key": "ab"}'])
def test_an_unreadable_record_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    store(tmp_path, [record(), damaged := record(seed=1)])
    next(tmp_path.glob(f"records/*/{damaged['key']}.json")).write_text(content)
    assert list(table.load(tmp_path)["seed"]) == [0]
    assert f"{damaged['key']}.json" in capsys.readouterr().err


def test_what_a_killed_run_left_behind_is_not_a_record(tmp_path: Path) -> None:
    folder = store(tmp_path, [record()])
    (next((folder / "records").iterdir()) / ".half-written.json").write_text("{")
    assert len(table.load(folder)) == 1


def test_parquet_and_csv_hold_the_same_table(tmp_path: Path) -> None:
    mixed = record(seed=1)
    mixed["diagnostics"] |= {"note": "text", "loss": 0.5}
    other = record(seed=2)
    other["diagnostics"] |= {"note": 3, "loss": None}
    frame = table.load(store(tmp_path, [record(), mixed, other, record(seed=3, status="timeout")]))
    parquet, csv = table.write(frame, tmp_path / "out" / "table")
    assert (parquet.name, csv.name) == ("table.parquet", "table.csv")
    assert list(pd.read_parquet(parquet)["diagnostics.note"])[1:3] == ["text", "3"]
    assert pd.read_csv(csv)["diagnostics.loss"].sum() == pd.read_parquet(parquet)["diagnostics.loss"].sum() == 0.5


def test_no_text_of_a_written_table_is_a_formula(tmp_path: Path) -> None:
    evil = '=HYPERLINK("http://evil")'
    one = record() | {"device": evil, "reason": "@SUM(1)", "sweep": "+1+cmd", "utility": {"test_accuracy": 0.5}}
    frame = table.load(store(tmp_path / "s", [one]))
    written = pd.read_csv(table.write_as(frame.rename(columns={"reason": "-reason"}), "csv", tmp_path / "x.csv"))
    assert (
        written["device"][0] == f"'{evil}" and written["'-reason"][0] == "'@SUM(1)" and written["sweep"][0] == "'+1+cmd"
    )
    assert written["utility.test_accuracy"][0] == 0.5 and frame["device"][0] == evil
    kept = pd.read_parquet(table.write_as(frame, "parquet", tmp_path / "x.parquet"))
    assert kept["device"][0] == evil


def test_no_torch() -> None:
    code = "import sys; import runners.report.leaderboard, runners.store.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
