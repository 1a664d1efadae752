from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

import gauntlet
from benchmark.errors import GauntletError
from runners.report import leaderboard, markdown, tables
from runners.report.board_text import number
from tests.runners.synthetic import noise, record, store, with_pictures


def text(folder: Path, records: list[dict[str, Any]]) -> str:
    for path in (path for one in records for path in one["media"].values()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    paths = leaderboard.write(store(folder, records))
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md")


def content(folder: Path, paths: list[Path]) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def line(markdown: str, start: str) -> list[str]:
    """Return the cells of the first table line that begins with ``start``."""
    found = next(one for one in markdown.splitlines() if one.startswith(f"| {start} "))
    return [cell.strip() for cell in found.strip("|").split("|")]


def attacked(defense: str, fixed: float, adaptive: float, **more: Any) -> list[dict[str, Any]]:
    """Return the records of the plain and the adaptive form of one attack."""
    return [record(defense=defense, risk=fixed, **more), record(defense=defense, risk=adaptive, adaptive=True, **more)]


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """Return records of a strong, a broken and a weak defense, of a stack, and of runs that went wrong."""
    clip = {"name": "gradient_clipping", "provider": "d", "max_norm": 1.0, "version": 1}
    epsilon = {"epsilon": 3.14159, "delta": 1e-3}
    return [
        *(with_pictures(one, "grid") for seed in (0, 1) for one in attacked("none", 0.9, 0.9, seed=seed)),
        *(one for seed in (0, 1) for one in attacked("dp_sgd", 0.1, 0.2, seed=seed, accuracy=0.85, cost=epsilon)),
        *attacked("gradient_noise", 0.2, 0.8),
        *attacked("gradient_pruning", 0.7, 0.8),
        record(defense=[clip, noise(0.1)], risk=0.3),
        record(defense="local_only", status="diverged"),
        record(defense="local_only", status="failed", adaptive=True),
        record("leakage_weak", risk=0.12),
        record("leakage_weak", "dp_sgd", risk=0.12, accuracy=0.85),
        record("leakage_control_mean", risk=0.3, control="negative"),
    ]


def test_written_again_it_is_the_same_to_the_byte_in_any_order(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    one = leaderboard.write(store(tmp_path / "one", records))
    first = content(tmp_path / "one", one)
    (tmp_path / "moved").mkdir()
    other = leaderboard.write(store(tmp_path / "moved" / "one", records[::-1]))
    assert content(tmp_path / "moved" / "one", other) == first
    assert content(tmp_path / "one", leaderboard.write(tmp_path / "one")) == first


def test_the_reading_sorts_defenses_by_their_worst_case(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    markdown = text(tmp_path, records)
    assert "strongest attack is leakage_dlg (0.900); the best negative control reaches 0.300" in markdown
    assert "so half way is 0.600." in markdown
    assert "Below half way against every attack: dp_sgd (costs 10.0 ± 0.0 points of test_accuracy)." in markdown
    broken = "gradient_noise (0.200 by leakage_dlg → 0.800 by leakage_dlg · adaptive)"
    assert f"Broken by its adaptive attack: {broken}." in markdown
    assert "Not below half way: gradient_pruning (0.800)." in markdown
    assert "Without any number: local_only." in markdown


def test_a_defense_without_an_adaptive_threat_is_marked_and_its_worst_case_a_bound(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    stack = next(one for one in text(tmp_path, records).splitlines() if one.startswith("| gradient_clipping + "))
    assert "≥ 0.300 (leakage_dlg)" in stack
    assert "no adaptive threat met" in stack


def test_cells_say_what_became_of_them(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    markdown = text(tmp_path, records).split("### Every threat")[1]
    assert line(markdown, "local_only") == ["local_only", "diverged", "failed", "not run", "not run"]
    assert line(markdown, "dp_sgd")[3] == "~~0.120~~ invalid"
    assert "invalid: attack reaches ssim 0.12 &lt; 0.5 without defense." in markdown


def test_the_best_is_bold_and_epsilon_comes_with_its_delta(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    cells = line(text(tmp_path, records).split("## collaboration")[1], "dp_sgd")
    assert cells[3:6] == ["**0.200** ± 0.000 (leakage_dlg · adaptive)", "0.900", "&lt; 0 %"]
    assert "3.14 (δ=0.001)" in cells and "1.5 MB" in cells


def test_pictures_are_linked_relative_to_the_boards(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    markdown = text(tmp_path, records)
    first, _, second, _ = (one["media"]["grid"] for one in records[:4])
    assert f"![leakage_dlg against none: grid](../{first})" in markdown
    assert second not in markdown
    assert markdown.count("<details>") == markdown.count("</details>") == 2


def test_the_csv_spells_validity_out(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    (board,) = leaderboard.contents(store(tmp_path, records)).boards
    rows = {(row["defense"], row["threat"]): row for row in csv.DictReader(io.StringIO(tables.board(board)))}
    weak = rows["dp_sgd", "leakage_weak"]
    assert (weak["risk"], weak["worst case"]) == ("0.12", "")
    assert weak["status"].startswith("invalid: attack reaches ssim 0.12")
    assert rows["local_only", "leakage_dlg"]["status"] == "diverged"
    assert rows["dp_sgd", "leakage_dlg · adaptive"]["worst case"] == "yes"


def test_of_a_metric_that_a_defense_never_met_nothing_is_said(tmp_path: Path) -> None:
    floor = {"metric": "label_accuracy", "at_least": 0.5}
    labels = [record("leakage_labels", risk=0.99, metric="label_accuracy", floor=floor)]
    markdown = text(tmp_path, [record(), record(defense="dp_sgd", risk=0.1), *labels])
    assert "Below half way against every attack: dp_sgd" in markdown
    assert "Without any number" not in markdown


def test_when_no_attack_works_no_defense_gets_credit(tmp_path: Path) -> None:
    markdown = text(tmp_path, [record(risk=0.1), record(defense="dp_sgd", risk=0.0)])
    assert "no attack is known to work here without a defense: nothing can be said about any defense" in markdown
    assert line(markdown, "collaboration")[5:] == ["none known to work", "–", "–", "–", "–", "–"]


def test_an_attack_no_better_than_a_control_proves_nothing(tmp_path: Path) -> None:
    mean = record("leakage_control_mean", risk=0.7, control="negative")
    markdown = text(tmp_path, [record(risk=0.6), record(defense="dp_sgd", risk=0.1), mean])
    assert "no better than a negative control (0.700)" in markdown
    assert "Below half way" not in markdown


def test_a_control_of_shifts_is_no_measure_of_chance_for_nobody_watches(tmp_path: Path) -> None:
    shift = {"metric": "missed", "floor": {"metric": "missed", "at_least": 0.5}}
    none = record("shift_control_none", risk=1.0, control="negative", **shift)
    attacks = [record("shift_natural", risk=1.0, **shift), record("shift_natural", "bbsd", risk=0.2, **shift)]
    markdown = text(tmp_path, [none, *attacks])
    assert "half way is 0.500" in markdown and "Below half way against every attack: bbsd" in markdown


def test_boards_that_are_no_more_leave_no_file(tmp_path: Path) -> None:
    leaderboard.write(store(tmp_path, [record(), record(model="mlp") | {"sweep": "other"}]))
    (tmp_path / "boards" / "notes.md").write_text("mine")
    for path in (tmp_path / "records").rglob("*.json"):
        path.unlink()
    leaderboard.write(store(tmp_path, [record()]))
    names = sorted(path.name for path in (tmp_path / "boards").iterdir())
    assert names == [".written.json", "README.md", "notes.md", "papers.md", "test.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boards", "claims.csv", "records"]


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "gauntlet sweep sweep=demo" in text(tmp_path, [])


def test_every_line_of_a_table_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    odd = record(defense=[noise(0.1) | {"how": "a|b"}])
    block = text(tmp_path, [record(), odd, record(defense=[noise(0.2)])]).replace("\\|", "/")
    for part in block.split("\n\n"):
        if part.startswith("|"):
            assert len({one.count("|") for one in part.splitlines()}) == 1


def test_utility_that_is_no_share_stays_in_its_unit(tmp_path: Path) -> None:
    records = [
        record() | {"utility": {"psnr_db": 31.5}},
        record(defense="dp_sgd", risk=0.1) | {"utility": {"psnr_db": 30.0}},
    ]
    markdown = text(tmp_path, records)
    assert "costs 1.500 psnr_db" in markdown
    assert "psnr_db (%)" not in markdown


@pytest.mark.parametrize(("value", "shown"), [(0.12345, "0.123"), (-0.0001, "0.000"), (31.44, "31.4"), (1.0, "1.000")])
def test_number(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_store_of_failures_only_is_a_board_without_numbers(tmp_path: Path) -> None:
    markdown = text(tmp_path, [record(status="failed"), record(defense="dp_sgd", status="timeout")])
    assert line(markdown.split("## collaboration")[1], "none")[1:4] == ["–", "–", "–"]
    assert line(markdown.split("### Every threat")[1], "dp_sgd") == ["dp_sgd", "timeout"]


def test_the_strip_of_a_board_is_shown(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "test.png").touch()
    assert "](../media/test.png)" in text(tmp_path, [record()])


def test_html_and_links_of_records_stay_text(tmp_path: Path) -> None:
    evil = [noise(0.1) | {"how": "<img src=x>[a](javascript:b)\n\n# title"}]
    markdown = text(tmp_path, [record(), record(defense=evil), record(defense=[noise(0.2)])])
    assert "<img" not in markdown and "](javascript" not in markdown
    assert "&lt;img" in markdown and "\n# title" not in markdown


@pytest.mark.parametrize("field", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1"])
def test_no_text_of_a_csv_is_a_formula(field: str) -> None:
    ((shown,),) = csv.reader(io.StringIO(tables.text([field], [])))
    assert shown == f"'{field}"


@pytest.mark.parametrize("field", ["-0.5", "+3", "1e-05", "gradient_noise", "–"])
def test_numbers_and_names_of_a_csv_are_left_alone(field: str) -> None:
    ((shown,),) = csv.reader(io.StringIO(tables.text([field], [])))
    assert shown == field


def test_the_index_leads_to_every_board(tmp_path: Path) -> None:
    paths = leaderboard.write(store(tmp_path, [record(), record(seed=1) | {"sweep": "other"}]))
    index = next(path for path in paths if path.name == markdown.INDEX).read_text("utf-8")
    assert "[test](test.md)" in index and "[other](other.md)" in index
    assert "../claims.csv" in index


def test_a_board_is_a_data_frame_in_python(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    frame = gauntlet.board("test", store(tmp_path, records))
    worst = frame[(frame["defense"] == "dp_sgd") & (frame["worst case"] == "yes")]
    assert worst[["threat", "risk", "undefended"]].values.tolist() == [["leakage_dlg · adaptive", 0.2, 0.9]]
    assert "none" in set(frame["defense"])
    with pytest.raises(GauntletError, match="no board 'tset'; it has .*test"):
        gauntlet.board("tset", tmp_path)
