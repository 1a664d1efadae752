from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runners.report.boards import Board, build
from runners.report.statistics import Summary
from runners.store.table import load
from tests.runners.synthetic import noise, record, store


def only(folder: Path, records: list[dict[str, Any]]) -> Board:
    (board,) = build(load(store(folder, records)))
    return board


def defenses(board: Board) -> list[str]:
    return [row.defense for row in board.rows]


def invalid(board: Board) -> dict[str, str | None]:
    return {column.threat: column.invalid for column in board.columns}


def test_a_board_for_each_place_and_for_setting_parameters_only_if_they_vary(tmp_path: Path) -> None:
    records = [record(), record(model="mlp"), record(scale="cpu"), record(scale="cpu", setting={"parties": 3})]
    assert [board.slug for board in build(load(store(tmp_path, records)))] == [
        "collaboration-digits-lenet-smoke",
        "collaboration-digits-mlp-smoke",
        "collaboration-parties=10-digits-lenet-cpu",
        "collaboration-parties=3-digits-lenet-cpu",
    ]


def test_a_place_of_many_parameters_still_has_a_file_name(tmp_path: Path) -> None:
    many = {f"parameter_{i}": i for i in range(30)}
    slugs = [board.slug for board in build(load(store(tmp_path, [record(), record(setting=many)])))]
    assert len(set(slugs)) == 2 and max(map(len, slugs)) < 120


def test_none_comes_first_then_the_least_worst_case_then_what_has_none(tmp_path: Path) -> None:
    board = only(
        tmp_path,
        [
            record(risk=0.9),
            record(defense="zeta", risk=0.2),
            record(defense="alpha", risk=0.4),
            record(defense="broken", status="failed"),
        ],
    )
    assert defenses(board) == ["none", "zeta", "alpha", "broken"]


def test_the_worst_case_is_the_strongest_attack_and_never_a_control(tmp_path: Path) -> None:
    board = only(
        tmp_path,
        [
            *(record(defense=name, risk=0.6) for name in ("none", "dp_sgd")),
            *(record(defense=name, risk=0.8, adaptive=True) for name in ("none", "dp_sgd")),
            *(record("control", name, risk=1.0, control="positive") for name in ("none", "dp_sgd")),
        ],
    )
    worst = board.rows[1].worst["ssim"]
    assert worst is not None and (worst.threat, worst.mean, worst.complete) == ("leakage_dlg · adaptive", 0.8, True)


@pytest.mark.parametrize(("undefended", "reason"), [(0.12, "attack reaches ssim 0.12 < 0.5"), (0.5, None)])
def test_an_attack_below_its_floor_without_defense_is_invalid(
    tmp_path: Path, undefended: float, reason: str | None
) -> None:
    board = only(tmp_path, [record(risk=undefended), record(defense="dp_sgd", risk=0.05)])
    found = invalid(board)["leakage_dlg"]
    assert found is None if reason is None else found is not None and found.startswith(reason)
    assert (board.rows[1].worst["ssim"] is None) == (reason is not None)


def test_the_floor_is_held_against_the_mean_over_seeds(tmp_path: Path) -> None:
    board = only(tmp_path, [record(risk=0.3, seed=0), record(risk=0.8, seed=1)])
    assert invalid(board) == {"leakage_dlg": None}


@pytest.mark.parametrize("undefended", [[], [record(status="failed")]])
def test_an_attack_never_finished_without_defense_is_invalid(tmp_path: Path, undefended: list[dict[str, Any]]) -> None:
    board = only(tmp_path, [*undefended, record(defense="dp_sgd", risk=0.9)])
    assert invalid(board) == {"leakage_dlg": "no finished run without defense"}


def test_a_floor_may_be_of_another_metric_than_the_headline(tmp_path: Path) -> None:
    board = only(tmp_path, [record(risk=0.9, floor={"metric": "psnr_db", "at_least": 25.0})])
    assert invalid(board) == {"leakage_dlg": "attack reaches psnr_db 20 < 25 without defense"}


def test_an_attack_without_a_floor_needs_only_a_finished_run(tmp_path: Path) -> None:
    assert invalid(only(tmp_path, [record(risk=0.01, floor=None)])) == {"leakage_dlg": None}


def test_controls_have_no_floor(tmp_path: Path) -> None:
    board = only(tmp_path, [record("control", "dp_sgd", risk=0.0, control="negative")])
    assert invalid(board) == {"control": None}
    assert board.metrics == []


def test_utility_lost_is_paired_by_seed(tmp_path: Path) -> None:
    board = only(
        tmp_path,
        [
            *(record(seed=seed, accuracy=0.90 + 0.02 * seed) for seed in range(3)),
            *(record(defense="dp_sgd", seed=seed, accuracy=0.80 + 0.02 * seed) for seed in (1, 2)),
        ],
    )
    price = board.rows[1].price
    assert price is not None and price.n == 2
    assert (price.mean, price.half_width) == pytest.approx((0.1, 0.0), abs=1e-12)
    assert board.rows[0].price is None


def test_a_single_seed_has_no_interval(tmp_path: Path) -> None:
    assert only(tmp_path, [record(accuracy=0.95)]).rows[0].utility == Summary(0.95, None, 1)


def test_seeds_without_a_number_are_counted_by_reason(tmp_path: Path) -> None:
    board = only(
        tmp_path,
        [
            *(record(seed=seed) for seed in range(5)),
            record(defense="dp_sgd", risk=0.2, seed=0),
            record(defense="dp_sgd", status="failed", seed=1),
            record(defense="dp_sgd", status="diverged", seed=2),
            record(defense="dp_sgd", risk=None, seed=3),
        ],
    )
    assert board.rows[1].lost == {"failed": 1, "diverged": 1, "no number": 1, "not run": 1}
    assert (board.rows[1].seeds, board.rows[0].lost) == (2, {})


def test_a_diverged_run_neither_helps_a_defense_nor_makes_it_the_best(tmp_path: Path) -> None:
    board = only(
        tmp_path,
        [
            *(record(threat, "none") for threat in ("leakage_dlg", "leakage_idlg")),
            *(record(threat, "honest", risk=0.3) for threat in ("leakage_dlg", "leakage_idlg")),
            record("leakage_dlg", "lucky", risk=0.1),
            record("leakage_idlg", "lucky", status="diverged"),
        ],
    )
    lucky = next(row for row in board.rows if row.defense == "lucky").worst["ssim"]
    best = board.best("ssim")
    assert lucky is not None and not lucky.complete
    assert best is not None and best.defense == "honest"


def test_only_a_valid_adaptive_threat_counts_as_met(tmp_path: Path) -> None:
    weak = [record(defense=name, risk=0.1, adaptive=True) for name in ("none", "dp_sgd")]
    strong = [record(defense=name, risk=0.9, adaptive=True, seed=1) for name in ("none", "dp_sgd")]
    assert not only(tmp_path / "weak", [record(), *weak]).rows[1].met_adaptive
    assert only(tmp_path / "strong", [record(), *strong]).rows[1].met_adaptive


def test_worst_cases_are_kept_apart_by_metric(tmp_path: Path) -> None:
    floor = {"metric": "label_accuracy", "at_least": 0.5}
    labels = [
        record("leakage_labels", name, risk=0.99, metric="label_accuracy", floor=floor) for name in ("none", "dp_sgd")
    ]
    images = [record(threat, name, risk=0.6) for threat in ("a", "b") for name in ("none", "dp_sgd")]
    board = only(tmp_path, [*labels, *images])
    assert board.metrics == ["ssim", "label_accuracy"]
    worst = board.rows[1].worst
    assert {metric: found.mean for metric, found in worst.items() if found} == {"ssim": 0.6, "label_accuracy": 0.99}


def test_ties_with_the_best_are_those_that_paired_tests_cannot_tell_apart(tmp_path: Path) -> None:
    jitter = [0.0, 0.02, -0.02, 0.01]
    risks = {
        "none": [0.9 + j for j in jitter],
        "best": [0.1 + j for j in jitter],
        "near": [0.11 - j for j in jitter],
        "far": [0.6 + 1.1 * j for j in jitter],
    }
    records = [record(defense=d, seed=seed, risk=value) for d in risks for seed, value in enumerate(risks[d])]
    board = only(tmp_path, records)
    assert board.tied == {"ssim": {"near"}}


def test_the_strongest_negative_control_is_chance(tmp_path: Path) -> None:
    controls = [record(f"control_{i}", risk=value, control="negative") for i, value in enumerate((0.1, 0.3))]
    board = only(tmp_path, [record(), *controls, record("copy", risk=1.0, control="positive")])
    assert board.chance("ssim") == 0.3
    assert board.chance("label_accuracy") == 0.0


def test_pictures_are_those_of_the_lowest_seed(tmp_path: Path) -> None:
    records = [record(defense=[noise(0.1)], seed=seed, media={"grid": f"media/{seed}.png"}) for seed in (2, 1)]
    assert only(tmp_path, records).rows[0].pictures == {"leakage_dlg": {"grid": "media/1.png"}}


def test_a_cell_that_failed_before_its_threat_was_known_is_still_a_row(tmp_path: Path) -> None:
    early = record(defense="dp_sgd", status="failed", adaptive=True) | {"facts": {}}
    board = only(tmp_path, [early, record(adaptive=True)])
    assert [(column.threat, column.metric) for column in board.columns] == [("leakage_dlg · adaptive", "ssim")]
    assert board.rows[1].lost == {"failed": 1}
    assert only(tmp_path / "alone", [early]).metrics == ["risk"]
