"""Tests of the evaluation of claims against records."""

from __future__ import annotations

from typing import Any

import pytest

from runners.claims.claim_evaluation import (
    INSIDE,
    MISSED,
    NOT_RUN,
    OUTSIDE,
    TESTED,
    UNAVAILABLE,
    Answer,
    answer,
    groups_of,
)
from runners.claims.claims import Claim
from tests.runners.synthetic import noise, record

SEEDS = (0, 1, 2)
CELLS = {"dataset": "digits", "threat": "leakage_dlg", "defense": "dp_sgd"}


def claim(**fields: Any) -> Claim:
    given = {"id": "c", "text": "t", "where": "w", "provenance": "gate", "scale": "smoke"}
    given |= {"cells": CELLS, "metric": "risk.ssim"}
    return Claim.model_validate(given | fields)


def answered(records: list[dict[str, Any]], **fields: Any) -> Answer:
    return answer(claim(**fields), groups_of(records))


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """Return records with risk 0.1, 0.2, 0.3 with dp_sgd and 0.9 without a defense; dp_sgd costs 0.05, 0.06, 0.07 of
    accuracy."""
    return [
        *(record(defense="dp_sgd", risk=0.1 * (1 + s), accuracy=0.9 - 0.01 * s, seed=s) for s in SEEDS),
        *(record(defense="none", risk=0.9, accuracy=0.95, seed=s) for s in SEEDS),
    ]


def test_a_value_is_held_against_the_mean_over_seeds(records: list[dict[str, Any]]) -> None:
    one = answered(records, value=0.25, tolerance=0.06, why="x")
    assert (one.state, one.seeds, len(one.keys)) == (INSIDE, 3, 3)
    assert (one.measured, one.sd) == (pytest.approx(0.2), pytest.approx(0.1))
    assert answered(records, value=0.25, tolerance=0.04, why="x").state == OUTSIDE


@pytest.mark.parametrize(("bounds", "state"), [({"at_most": 0.2}, INSIDE), ({"at_least": 0.21}, OUTSIDE)])
def test_an_inequality(records: list[dict[str, Any]], bounds: dict[str, float], state: str) -> None:
    assert answered(records, **bounds).state == state


def test_every_seed_is_stricter_than_the_mean(records: list[dict[str, Any]]) -> None:
    one = answered(records, at_most=0.25, every_seed=True)
    assert (one.state, one.note) == (OUTSIDE, "holds in 2 of 3 seeds")


def test_a_difference_is_paired_by_seed(records: list[dict[str, Any]]) -> None:
    other = {"metric": "utility.test_accuracy", "against": {"defense": "none"}}
    one = answered(records, **other, at_least=-0.06)
    assert (one.state, one.measured, one.sd) == (INSIDE, pytest.approx(-0.06), pytest.approx(0.01))
    assert answered(records[1:4], **other, at_least=-1).seeds == 0
    assert answered(records[1:5], **other, at_least=-1).seeds == 1


def test_a_ratio_and_another_metric(records: list[dict[str, Any]]) -> None:
    one = answered(records, against={"defense": "none"}, by="ratio", at_most=0.25)
    assert one.measured == pytest.approx(0.2 / 0.9)
    assert answered(records, against_metric="utility.test_accuracy", at_most=-0.6).measured == pytest.approx(0.2 - 0.89)


def test_a_ratio_to_nothing_is_no_fault(records: list[dict[str, Any]]) -> None:
    nothing = [record(defense="krum", risk=0.0, seed=seed) for seed in SEEDS]
    one = answered([*records, *nothing], against={"defense": "krum"}, by="ratio", at_least=2)
    assert (one.state, one.measured, one.sd) == (INSIDE, float("inf"), None)
    assert (
        answered(
            [*records, *nothing], cells=CELLS | {"defense": "krum"}, against={"defense": "krum"}, by="ratio", at_least=0
        ).state
        == OUTSIDE
    )


def test_parameters_choose_among_cells_and_reduce_combines_them() -> None:
    some = [record(defense=[noise(std)], risk=std) for std in (0.1, 0.3)]
    cells = {"defense": "gradient_noise"}
    one = answered(some, cells=cells, at_most=1)
    assert (one.state, one.measured) == (NOT_RUN, None)
    assert "differ in defense.gradient_noise.std" in one.note
    assert answered(some, cells=cells | {"defense.gradient_noise.std": 0.3}, at_most=1).measured == 0.3
    assert answered(some, cells=cells, at_most=1, reduce="max").measured == 0.3
    assert answered(some, cells=cells, at_most=1, reduce="mean").measured == pytest.approx(0.2)


def test_a_stack_is_not_its_members() -> None:
    stack = record(defense=[noise(0.1), {"name": "dp_sgd", "provider": "d", "version": 1}], risk=0.4)
    assert answered([stack], cells={"defense": "gradient_noise"}, at_most=1).state == NOT_RUN
    assert answered([stack], cells={"defense": "gradient_noise+dp_sgd"}, at_most=1).measured == 0.4
    assert answered([stack], cells={"defense": ["gradient_noise", "dp_sgd"]}, at_most=1).measured == 0.4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scale": "full"}, "no record of scale=full"),
        ({"cells": CELLS | {"threat": "leakage_idlg"}}, "no record has threat=leakage_idlg"),
        ({"cells": CELLS | {"threat.pairs": 3}}, "no record has threat.pairs=3 among the 1"),
        ({"metric": "risk.mse"}, "there is no risk.mse; there is psnr_db, ssim"),
        ({"against": {"defense": "krum"}}, "to compare with: no record has defense=krum"),
    ],
)
def test_what_was_not_run_says_what_is_missing(
    records: list[dict[str, Any]], fields: dict[str, Any], said: str
) -> None:
    one = answered(records, at_most=1, **fields)
    assert one.state == NOT_RUN
    assert said in one.note


def test_failed_runs_are_no_numbers(records: list[dict[str, Any]]) -> None:
    broken = record(defense="dp_sgd", status="failed", seed=3)
    assert answered([*records, broken], at_most=1).note == "1 of 4 runs gave no number"
    assert answered([broken], at_most=1).note == "all runs failed"


def test_a_miss_that_is_explained_is_no_error(records: list[dict[str, Any]]) -> None:
    one = answered(records, at_most=0.1, miss="five restarts")
    assert (one.state, one.note) == (MISSED, "known: five restarts")
    assert answered(records, at_most=0.3, miss="x").note == "no longer missed: drop `miss`"


def test_claims_without_cells() -> None:
    assert answered([], provenance="unavailable", why="not printed").state == UNAVAILABLE
    assert answered([], test="tests/runners/test_claim_evaluation.py::test_claims_without_cells").state == TESTED


def test_numbers_of_changed_components_answer_only_if_there_are_no_others(records: list[dict[str, Any]]) -> None:
    real = {"provider": "benchmark", "name": "dp_sgd"}
    old = record(defense=[real | {"version": -1}], risk=0.7)
    assert answered([old], at_most=1).note == "components have changed since"
    new = record(defense=[real | {"version": 2}], risk=0.3)
    assert answered([old, new], at_most=1).measured == 0.3
