from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runners.report.boards import ALONE, Board, build
from runners.report.sections import UNPAIRED, Section
from runners.report.source import compact, read
from runners.report.statistics import Summary
from tests.runners.synthetic import noise, record, store, with_pictures


def boards(records: list[dict[str, Any]]) -> list[Board]:
    return build(list(compact(records)))


def only(records: list[dict[str, Any]]) -> Section:
    (board,) = boards(records)
    (section,) = board.sections
    return section


def defenses(board: Section) -> list[str]:
    return [row.defense for row in board.rows]


def invalid(board: Section) -> dict[str, str | None]:
    return {column.threat: column.invalid for column in board.columns}


def test_a_board_for_each_sweep_with_a_section_for_each_protocol() -> None:
    records = [record(), record(model="mlp"), record(scale="cpu"), record(scale="cpu", setting={"parties": 3})]
    other = record(seed=1) | {"sweep": "papers/other"}
    first, second = boards([*records, other])
    assert [section.title for section in second.sections] == [
        "collaboration · digits · lenet · smoke",
        "collaboration · digits · mlp · smoke",
        "collaboration (parties=10) · digits · lenet · cpu",
        "collaboration (parties=3) · digits · lenet · cpu",
    ]
    assert [(board.name, board.slug, len(board.sections)) for board in (first, second)] == [
        ("other", "other", 1),
        ("test", "test", 4),
    ]


def test_cells_that_no_sweep_played_stand_on_a_board_of_their_own() -> None:
    assert [board.name for board in boards([record(), record(seed=1) | {"sweep": None}])] == ["test", ALONE]


def test_a_protocol_of_many_parameters_has_a_short_anchor() -> None:
    many = {f"parameter_{i}": i for i in range(30)}
    (board,) = boards([record(), record(setting=many)])
    slugs = [section.slug for section in board.sections]
    assert len(set(slugs)) == 2 and max(map(len, slugs)) < 120


def test_the_undefended_run_of_another_sweep_is_taken_in_where_one_is_missing() -> None:
    elsewhere = [record(risk=0.9, seed=seed) | {"sweep": "earlier"} for seed in (0, 1)]
    own = [record(defense="dp_sgd", risk=0.3), record("leakage_idlg", risk=0.7)]
    shown = next(board for board in boards([*elsewhere, *own]) if board.name == "test").sections[0]
    assert invalid(shown) == {"leakage_dlg": None, "leakage_idlg": None}
    assert shown.rows[1].cells["leakage_dlg"].comparison.undefended == {0: 0.9}
    assert shown.rows[0].cells["leakage_dlg"].risk == {0: 0.9}, "seed 1 was not asked for here"


def test_the_plain_form_stands_in_for_an_adaptive_attack_that_nobody_played_undefended() -> None:
    told = record("leakage_dlg", defense="dp_sgd", adaptive=True, risk=0.5)
    shown = only([record(risk=0.9), record(risk=0.8, threat_parameters={"iterations": 7}), told])
    column = next(column for column in shown.columns if column.adaptive)
    assert column.invalid is None
    assert shown.rows[1].cells[column.threat].comparison.undefended == {0: 0.9}, "of equal parameters"
    alone = only([told])
    assert alone.columns[0].invalid is not None, "no run without a defense in either form"


def test_only_the_runs_whose_undefended_run_exists_make_a_number() -> None:
    board = only([record(risk=0.6), record(defense="dp_sgd", risk=0.5), record(defense="dp_sgd", risk=0.9, seed=1)])
    cell = board.rows[1].cells["leakage_dlg"]
    assert (cell.risk, cell.comparison.undefended) == ({0: 0.5}, {0: 0.6})
    assert cell.lost == {UNPAIRED: 1}
    assert cell.comparison.share == pytest.approx(0.5 / 0.6)


def test_none_comes_first_then_the_least_worst_case_then_what_has_none() -> None:
    board = only(
        [
            record(risk=0.9),
            record(defense="zeta", risk=0.2),
            record(defense="alpha", risk=0.4),
            record(defense="broken", status="failed"),
        ],
    )
    assert defenses(board) == ["none", "zeta", "alpha", "broken"]


def test_the_worst_case_is_the_strongest_attack_and_never_a_control() -> None:
    board = only(
        [
            *(record(defense=name, risk=0.6) for name in ("none", "dp_sgd")),
            *(record(defense=name, risk=0.8, adaptive=True) for name in ("none", "dp_sgd")),
            *(record("control", name, risk=1.0, control="positive") for name in ("none", "dp_sgd")),
        ],
    )
    worst = board.rows[1].worst["ssim"]
    assert worst is not None and (worst.threat, worst.mean, worst.complete) == ("leakage_dlg · adaptive", 0.8, True)


@pytest.mark.parametrize(("undefended", "reason"), [(0.12, "attack reaches ssim 0.12 < 0.5"), (0.5, None)])
def test_an_attack_below_its_floor_without_defense_is_invalid(undefended: float, reason: str | None) -> None:
    board = only([record(risk=undefended), record(defense="dp_sgd", risk=0.05)])
    found = invalid(board)["leakage_dlg"]
    assert found is None if reason is None else found is not None and found.startswith(reason)
    assert (board.rows[1].worst["ssim"] is None) == (reason is not None)


def test_the_floor_is_held_against_the_mean_over_seeds() -> None:
    board = only([record(risk=0.3, seed=0), record(risk=0.8, seed=1)])
    assert invalid(board) == {"leakage_dlg": None}


@pytest.mark.parametrize("undefended", [[], [record(status="failed")]])
def test_an_attack_never_finished_without_defense_is_invalid(undefended: list[dict[str, Any]]) -> None:
    board = only([*undefended, record(defense="dp_sgd", risk=0.9)])
    assert invalid(board) == {"leakage_dlg": "no finished run without defense"}


def test_a_floor_may_be_of_another_metric_than_the_headline() -> None:
    board = only([record(risk=0.9, floor={"metric": "psnr_db", "at_least": 25.0})])
    assert invalid(board) == {"leakage_dlg": "attack reaches psnr_db 20 < 25 without defense"}


def test_an_attack_without_a_floor_needs_only_a_finished_run() -> None:
    assert invalid(only([record(risk=0.01, floor=None)])) == {"leakage_dlg": None}


def test_controls_have_no_floor() -> None:
    board = only([record("control", "dp_sgd", risk=0.0, control="negative")])
    assert invalid(board) == {"control": None}
    assert board.metrics == []


def test_utility_lost_is_paired_by_seed() -> None:
    board = only(
        [
            *(record(seed=seed, accuracy=0.90 + 0.02 * seed) for seed in range(3)),
            *(record(defense="dp_sgd", seed=seed, accuracy=0.80 + 0.02 * seed) for seed in (1, 2)),
        ],
    )
    price = board.rows[1].price
    assert price is not None and price.n == 2
    assert (price.mean, price.half_width) == pytest.approx((0.1, 0.0), abs=1e-12)
    assert board.rows[0].price is None


def test_a_single_seed_has_no_interval() -> None:
    assert only([record(accuracy=0.95)]).rows[0].utility == Summary(0.95, None, 1)


def test_seeds_without_a_number_are_counted_by_reason() -> None:
    board = only(
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


def test_a_diverged_run_neither_helps_a_defense_nor_makes_it_the_best() -> None:
    board = only(
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


def test_only_a_valid_adaptive_threat_counts_as_met() -> None:
    weak = [record(defense=name, risk=0.1, adaptive=True) for name in ("none", "dp_sgd")]
    strong = [record(defense=name, risk=0.9, adaptive=True, seed=1) for name in ("none", "dp_sgd")]
    assert not only([record(), *weak]).rows[1].met_adaptive
    assert only([record(), *strong]).rows[1].met_adaptive


def test_worst_cases_are_kept_apart_by_metric() -> None:
    floor = {"metric": "label_accuracy", "at_least": 0.5}
    labels = [
        record("leakage_labels", name, risk=0.99, metric="label_accuracy", floor=floor) for name in ("none", "dp_sgd")
    ]
    images = [record(threat, name, risk=0.6) for threat in ("a", "b") for name in ("none", "dp_sgd")]
    board = only([*labels, *images])
    assert board.metrics == ["ssim", "label_accuracy"]
    worst = board.rows[1].worst
    assert {metric: found.mean for metric, found in worst.items() if found} == {"ssim": 0.6, "label_accuracy": 0.99}


def test_ties_with_the_best_are_those_that_paired_tests_cannot_tell_apart() -> None:
    jitter = [0.0, 0.02, -0.02, 0.01]
    risks = {
        "none": [0.9 + j for j in jitter],
        "best": [0.1 + j for j in jitter],
        "near": [0.11 - j for j in jitter],
        "far": [0.6 + 1.1 * j for j in jitter],
    }
    records = [record(defense=d, seed=seed, risk=value) for d in risks for seed, value in enumerate(risks[d])]
    board = only(records)
    assert board.tied == {"ssim": {"near"}}


def test_the_strongest_negative_control_is_chance() -> None:
    controls = [record(f"control_{i}", risk=value, control="negative") for i, value in enumerate((0.1, 0.3))]
    board = only([record(), *controls, record("copy", risk=1.0, control="positive")])
    assert board.chance("ssim") == 0.3
    assert board.chance("label_accuracy") == 0.0


def test_pictures_are_those_of_the_lowest_seed_that_left_any() -> None:
    records = [record(defense=[noise(0.1)], seed=seed, media={"grid": f"media/{seed}.png"}) for seed in (2, 1)]
    records.append(record(defense=[noise(0.1)], seed=0))
    assert only(records).rows[0].pictures == {"leakage_dlg": {"grid": "media/1.png"}}


def test_a_record_names_no_picture_but_those_in_its_store(tmp_path: Path) -> None:
    one = with_pictures(record(), "own", "gone", "link")
    own, link = (tmp_path / one["media"][name] for name in ("own", "link"))
    own.parent.mkdir(parents=True)
    own.touch()
    (tmp_path / "secret.png").touch()
    link.symlink_to(tmp_path / "secret.png")
    (found,) = read(store(tmp_path, [one]))
    assert found["media"] == {"own": one["media"]["own"]}


def test_a_cell_that_failed_before_its_threat_was_known_is_still_a_row() -> None:
    early = record(defense="dp_sgd", status="failed", adaptive=True) | {"facts": {}}
    board = only([early, record(adaptive=True)])
    assert [(column.threat, column.metric) for column in board.columns] == [("leakage_dlg · adaptive", "ssim")]
    assert board.rows[1].lost == {"failed": 1}
    assert only([early]).metrics == ["risk"]
