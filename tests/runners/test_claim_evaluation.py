"""Tests of the evaluation of claims against records."""

from __future__ import annotations

from typing import Any

import pytest

from runners.claims.claim_evaluation import (
    AMBIGUOUS,
    INSIDE,
    MISSED,
    NOT_RUN,
    OUTSIDE,
    TESTED,
    UNAVAILABLE,
    UNDECIDED,
    VACUOUS,
    Answer,
    answer,
    groups_of,
)
from runners.claims.claims import Claim
from tests.runners.synthetic import noise, record

SEEDS = (0, 1, 2)
CELLS = {"dataset": "digits", "threat": "leakage_dlg", "defense": "dp_sgd"}


def claim(**fields: Any) -> Claim:
    given: dict[str, Any] = {"id": "c", "text": "t", "where": "w", "kind": "rerun", "scale": "smoke"}
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


@pytest.mark.parametrize(
    ("value", "tolerance", "state"),
    [
        (0.25, 0.25, INSIDE),
        (0.6, 0.25, INSIDE),  # the interval, of 0.2 ± 0.248, reaches 0.35
        (0.25, 0.24, UNDECIDED),  # it is wider than the tolerance
        (0.71, 0.25, OUTSIDE),
    ],
)
def test_a_value_wants_an_interval_that_reaches_it_and_is_no_wider_than_its_tolerance(
    records: list[dict[str, Any]], value: float, tolerance: float, state: str
) -> None:
    one = answered(records, value=value, tolerance=tolerance, why="x")
    assert (one.state, one.number.seeds, len(one.number.keys)) == (state, 3, 3)
    assert (one.number.measured, one.number.sd) == (pytest.approx(0.2), pytest.approx(0.1))


@pytest.mark.parametrize(
    ("bounds", "state"),
    [
        ({"at_most": 0.45}, INSIDE),
        ({"at_most": 0.3}, UNDECIDED),
        ({"at_most": 0.2}, UNDECIDED),
        ({"at_least": 0.44}, UNDECIDED),
        ({"at_least": 0.45}, OUTSIDE),
        ({"at_least": -0.05, "at_most": 0.45}, INSIDE),
    ],
)
def test_an_inequality_wants_all_of_the_interval(
    records: list[dict[str, Any]], bounds: dict[str, float], state: str
) -> None:
    assert answered(records, **bounds).state == state


@pytest.mark.parametrize(("bounds", "state"), [({"at_least": 0.9}, INSIDE), ({"above": 0.9}, OUTSIDE)])
def test_a_strict_bound_is_not_met_by_itself(
    records: list[dict[str, Any]], bounds: dict[str, float], state: str
) -> None:
    assert answered(records, cells=CELLS | {"defense": "none"}, **bounds).state == state


def test_one_seed_is_a_point_and_says_so(records: list[dict[str, Any]]) -> None:
    one = answered(records[:1], at_most=0.1)
    assert (one.state, one.note) == (INSIDE, "one seed: no interval")


def test_a_difference_is_paired_by_seed(records: list[dict[str, Any]]) -> None:
    other = {"metric": "utility.test_accuracy", "against": {"defense": "none"}}
    one = answered(records, **other, at_least=-0.06)
    assert (one.state, one.number.measured, one.number.sd) == (
        UNDECIDED,
        pytest.approx(-0.06),
        pytest.approx(0.01),
    )
    assert answered(records, **other, at_least=-0.09).state == INSIDE
    assert answered(records[1:4], **other, at_least=-1).number.seeds == 0
    assert answered(records[1:5], **other, at_least=-1).number.seeds == 1


def test_a_ratio_and_another_metric(records: list[dict[str, Any]]) -> None:
    one = answered(records, against={"defense": "none"}, by="ratio", at_most=0.5)
    assert (one.state, one.number.measured) == (INSIDE, pytest.approx(0.2 / 0.9))
    one = answered(records, against_metric="utility.test_accuracy", at_most=-0.6)
    assert one.number.measured == pytest.approx(0.2 - 0.89)


def test_a_factor_is_the_geometric_mean_of_the_seeds(records: list[dict[str, Any]]) -> None:
    one = answered(records, against={"defense": "none"}, by="factor", at_most=1)
    assert one.number.measured == pytest.approx((0.1 * 0.2 * 0.3) ** (1 / 3) / 0.9)
    nothing = [record(defense="krum", risk=0.0, seed=seed) for seed in SEEDS]
    one = answered([*records, *nothing], cells=CELLS | {"defense": "krum"}, against={}, by="factor", at_most=1)
    assert one.state == UNDECIDED


def test_a_ratio_to_nothing_is_no_fault(records: list[dict[str, Any]]) -> None:
    nothing = [record(defense="krum", risk=0.0, seed=seed) for seed in SEEDS]
    bare, krum = CELLS | {"defense": "none"}, {"defense": "krum"}
    one = answered([*records, *nothing], cells=bare, against=krum, by="ratio", at_least=2)
    assert (one.state, one.number.measured, one.number.sd) == (INSIDE, float("inf"), None)
    one = answered([*records, *nothing], cells=CELLS | krum, against={"defense": "none"}, by="ratio", at_least=0)
    assert (one.state, one.number.measured) == (INSIDE, 0)
    one = answered([*records, *nothing], cells=CELLS | krum, against=krum, by="ratio", at_least=0)
    assert one.state == UNDECIDED


def test_parameters_choose_among_cells_and_reduce_combines_them() -> None:
    some = [record(defense=[noise(std)], risk=std) for std in (0.1, 0.3)]
    cells = {"defense": "gradient_noise"}
    one = answered(some, cells=cells, at_most=1)
    assert (one.state, one.number.measured) == (AMBIGUOUS, None)
    assert "differ in defense.gradient_noise.std" in one.note
    assert answered(some, cells=cells | {"defense.gradient_noise.std": 0.3}, at_most=1).number.measured == 0.3
    assert answered(some, cells=cells, at_most=1, reduce="max").number.measured == 0.3
    assert answered(some, cells=cells, at_most=1, reduce="mean").number.measured == pytest.approx(0.2)


def test_a_stack_is_not_its_members() -> None:
    stack = record(defense=[noise(0.1), {"name": "dp_sgd", "provider": "d", "version": 1}], risk=0.4)
    assert answered([stack], cells={"defense": "gradient_noise"}, at_most=1).state == NOT_RUN
    assert answered([stack], cells={"defense": "gradient_noise+dp_sgd"}, at_most=1).number.measured == 0.4
    assert answered([stack], cells={"defense": ["gradient_noise", "dp_sgd"]}, at_most=1).number.measured == 0.4


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
    one = answered(records, at_most=-0.1, miss="five restarts")
    assert (one.state, one.note) == (MISSED, "known: five restarts")
    assert answered(records, at_most=0.1, miss="x").state == UNDECIDED
    assert answered(records, at_most=0.5, miss="x").note == "no longer missed: drop `miss`"


def test_claims_without_cells() -> None:
    assert answered([], cells=None, why="not printed").state == UNAVAILABLE
    assert (
        answered([], cells=None, test="tests/runners/test_claim_evaluation.py::test_claims_without_cells").state
        == TESTED
    )


def test_numbers_of_changed_components_answer_only_if_there_are_no_others(records: list[dict[str, Any]]) -> None:
    real = {"provider": "benchmark", "name": "dp_sgd"}
    old = record(defense=[real | {"version": -1}], risk=0.7)
    assert answered([old], at_most=1).note == "components have changed since; one seed: no interval"
    new = record(defense=[real | {"version": 2}], risk=0.3)
    assert answered([old, new], at_most=1).number.measured == 0.3


# -- rivals -----------------------------------------------------------------------------------------------------------
def rivalled(records: list[dict[str, Any]], rival: Any, **fields: Any) -> Answer:
    return answered(records, must_fail={"it": rival}, **fields)


@pytest.mark.parametrize(
    ("fields", "rival", "passes"),
    [
        ({"at_most": 0.5}, {"defense": "none"}, False),
        ({"at_most": 0.95}, {"defense": "none"}, True),
        ({"at_most": 0.5}, 0.4, True),
        ({"value": 0.2, "tolerance": 0.3, "why": "x"}, 0.4, True),
        ({"value": 0.2, "tolerance": 0.3, "why": "x"}, 0.6, False),
        ({"at_most": 0.0, "against": {"defense": "none"}}, "tie", True),
        ({"below": 0.0, "against": {"defense": "none"}}, "tie", False),
        ({"at_most": 1.0, "against": {"defense": "none"}, "by": "ratio"}, "tie", True),
        ({"at_most": -0.2, "against": {"defense": "none"}}, 0.6, True),  # 0.6 in place of the claim's own, 0.9 there
        ({"at_most": -0.2, "against": {"defense": "none"}}, 0.8, False),
        ({"at_most": -0.2, "against_metric": "utility.test_accuracy"}, {"defense": "none"}, False),
    ],
)
def test_a_row_that_its_rival_passes_is_vacuous(
    records: list[dict[str, Any]], fields: dict[str, Any], rival: Any, passes: bool
) -> None:
    one = rivalled(records, rival, **fields)
    assert (one.state == VACUOUS) == passes
    assert ("its rival passes: it" in one.note) == passes


def test_a_rival_without_a_record_is_named_and_changes_nothing(records: list[dict[str, Any]]) -> None:
    one = rivalled(records, {"defense": "krum"}, at_most=0.5)
    assert (one.state, one.note) == (INSIDE, "rival not run: it")


@pytest.mark.parametrize(("spent", "state"), [({"epsilon": 10.0}, INSIDE), ({"epsilon": 10.1}, OUTSIDE), ({}, OUTSIDE)])
def test_a_number_counts_within_its_budget_only(spent: dict[str, float], state: str) -> None:
    cheap = [record(defense="dp_sgd", risk=0.1, seed=seed, cost=spent) for seed in SEEDS]
    dear = [record(defense="none", risk=0.2, seed=seed) for seed in SEEDS]
    one = rivalled([*cheap, *dear], {"defense": "none"}, at_most=0.5, budget={"cost.epsilon": 10.0})
    assert one.state == state  # and the rival, whose risk is low without a budget, does not pass
    assert ("runs do not keep" in one.note) == (state == OUTSIDE)


def test_a_row_that_was_not_run_can_be_vacuous_already() -> None:
    assert rivalled([], 0.1, at_least=0.05).state == VACUOUS


@pytest.mark.parametrize(
    ("metric", "bound", "good", "rival"),
    [
        ("risk.class_recovery", {"at_least": 0.5}, (1.0, 1.0, 1.0), (0.555, 1.0, 0.157)),  # an untrained generator
        ("risk.attribute_balanced_accuracy", {"below": 0.9}, (0.72, 0.7, 0.71), (0.84, 0.85, 0.84)),  # a no-op mapper
        ("utility.test_accuracy", {"at_least": 0.05}, (0.9, 0.91, 0.9), (0.1, 0.1, 0.1)),  # always one class
        ("risk.examiner_accuracy", {"at_most": 0.2}, (0.11, 0.12, 0.1), (0.11, 0.11, 0.11)),  # all-black images
        ("risk.attack_auc", {"at_most": 0.56}, (0.52, 0.5, 0.53), (0.54, 0.53, 0.54)),  # a generator without privacy
        ("utility.valuation_tau", {"at_least": 0.8}, (0.93, 0.92, 0.93), (1.0, 1.0, 1.0)),  # a copy of the data set
    ],
)
def test_planted_rivals_fell_rows_that_cannot_tell_them_apart(
    metric: str, bound: dict[str, float], good: tuple[float, ...], rival: tuple[float, ...]
) -> None:
    section, _, name = metric.partition(".")
    planted = []
    for defense, values in (("dp_sgd", good), ("none", rival)):
        for seed, value in enumerate(values):
            one = record(defense=defense, seed=seed)
            one[section] = {name: value}
            planted.append(one)
    assert answered(planted, metric=metric, **bound).state == INSIDE
    assert rivalled(planted, {"defense": "none"}, metric=metric, **bound).state == VACUOUS
