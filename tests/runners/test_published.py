"""Tests that the committed boards and claims equal, byte for byte, those made from the committed records."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

import pytest
from hydra.utils import get_object

from benchmark.parameters import validated
from runners.claims.claim_evaluation import FAULTS, INSIDE, Group, answer, groups_of, matching
from runners.claims.claims import Paper, load
from runners.config import catalogue
from runners.config.identity import canonical, labelled
from runners.config.syntax import SUITE
from runners.report import leaderboard, output
from runners.store.records import Store
from runners.store.table import READ
from tests.runners.conftest import ROOT

RESULTS = ROOT / "results"
BOARDS = RESULTS / leaderboard.BOARDS


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    return groups_of(Store(RESULTS).all(*READ, "versions"))


@pytest.fixture(scope="module")
def papers() -> dict[str, Paper]:
    return {paper.system: paper for paper in load(RESULTS / "reported")}


@pytest.mark.ci
@pytest.mark.timeout(300)
@pytest.mark.skipif(not BOARDS.is_dir(), reason="no boards are committed yet")
def test_the_committed_boards_are_made_from_the_committed_records() -> None:
    made = leaderboard.files(leaderboard.contents(RESULTS, RESULTS / "reported"))
    paths = [RESULTS / leaderboard.CLAIMS, *(path for path in BOARDS.rglob("*") if path.is_file())]
    lie = {path.relative_to(RESULTS).as_posix(): path for path in paths if path.name != output.MANIFEST}
    differing = made.keys() ^ lie.keys()
    differing |= {name for name in made.keys() & lie.keys() if lie[name].read_bytes() != made[name].encode()}
    assert not differing, f"`make leaderboard` and commit: {len(differing)} files differ, e.g. {sorted(differing)[:5]}"


def test_no_published_claim_is_at_fault() -> None:
    with (RESULTS / leaderboard.CLAIMS).open(encoding="utf-8", newline="") as file:
        states = {f"{row['system']} {row['claim']}": row["state"] for row in csv.DictReader(file)}
    assert states
    assert {claim: state for claim, state in states.items() if state in FAULTS} == {}


@pytest.mark.ci
def test_no_published_parameter_is_out_of_bounds(groups: list[Group]) -> None:
    """A bound that a published cell breaks would make its record impossible to run again."""
    checked = {canonical(node): (label, node) for group in groups for label, node in labelled(group.config)}
    assert checked
    for label, node in checked.values():
        target = catalogue.target(label, str(node["provider"]))
        if target is not None and str(node["provider"]) == SUITE:
            plain = {
                name: value for name, value in node.items() if name not in ("name", "class", "provider", "version")
            }
            validated(get_object(target), plain, label)


# -- a degenerate component in the place of the real one --------------------------------------------------------------
SECTIONS = ("utility", "risk", "cost", "diagnostics")
Numbers = Mapping[str, Mapping[str, float]]
"""Metrics by section, as in a record."""


def holds(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a cell has this ``defense`` and a ``threat`` of this beginning, and the other parameters."""
    stack = "+".join(part["name"] for part in config["defense"])
    told = {parameter: value for part in (*config["defense"], config["threat"]) for parameter, value in part.items()}
    return all(
        stack == value
        if name == "defense"
        else config["threat"]["name"].startswith(value)
        if name == "threat"
        else told.get(name) == value
        for name, value in wanted.items()
    )


def in_place_of(group: Group, groups: list[Group], rival: Mapping[str, Any]) -> Mapping[int, Numbers]:
    """Return what the rival gives by seed: its numbers, or those of its cell on the same data that has most in common.

    A rival that was not played there gives nothing.
    """
    if any(section in rival for section in SECTIONS):
        return dict.fromkeys(group.records, rival)
    same = [one for one in groups if all(one.config[part] == group.config[part] for part in ("dataset", "scale"))]
    parts = ("model", "setting", "threat", "defense")
    alike = [one for one in same if holds(one.config, rival)]
    best = max(alike, key=lambda one: sum(one.config[part] == group.config[part] for part in parts), default=None)
    return best.records if best else {}


def planted(group: Group, outcome: Mapping[int, Numbers]) -> Group:
    """Return ``group`` with the rival's numbers, of the sections that it gives, in its records."""
    records = {
        seed: record | {section: outcome[seed][section] for section in SECTIONS if section in outcome[seed]}
        for seed, record in group.records.items()
        if seed in outcome
    }
    return Group(group.config, records, group.stale)


NOTHING = dict.fromkeys(("ssim", "retrieval_top1", "recovered_share", "attack_success", "class_recovery"), 0.0)
NOTHING |= dict.fromkeys(("examiner_accuracy", "label_accuracy", "identification_rate"), 0.1)
WORTH = {"privileged_fidelity", "protected_fidelity", "decisions_are_kept", "diversity"}
PLANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any], set[str]]] = {
    # what is planted: the paper, the rival, the real component, and the rows that the rival rightly meets
    "a copy for sanitised images": (
        "01",
        {"defense": "none"},
        {"defense": "ip_sanitize"},
        {"valuation_error", "valuation_ranking", "reference_error", "reference_ranking"},
    ),
    "black images for reconstructions": (
        "02",
        {"risk": NOTHING},
        {"threat": "reconstruction_"},
        {"random_graph_identifies_nothing"},
    ),
    "an untrained generator": (
        "03",
        {"threat": "gan_control_untrained"},
        {"threat": "gan_insider"},
        {
            "utility_drop",
            "p2_gate3_selective_useful",
            "gate4_noise_useful",
            "gate1_passive_far",
        },  # it harms nobody, and is far from any image
    ),
    "a student who names one class": (
        "04",
        {"utility": {"test_accuracy": 0.5, "kappa": 0.0}},
        {"defense": "stimuli"},
        set(),
    ),
    "an honest provider": (
        "05",
        {"threat": "reconstruction_honest_posthoc"},
        {"threat": "reconstruction_vicious"},
        {
            "accuracy_is_kept"
        }  # and a decoder fitted afterwards shows something too, which rows of the vicious one exceed
        | {"vicious_beats_the_class_mean", "mnist_vicious_beats_the_class_mean", "raw_leaks_more_than_softmax"}
        | {"more_classes_risk_2_5", "more_classes_risk_5_10"},
    ),
    "a mapper that does nothing": (
        "06",
        {"defense": "none"},
        {"defense": "fair_mapping"},
        WORTH | {"no_rewritten_decisions"},
    ),
    "an attacker who names the larger group": (
        "06",
        {"threat": "attribute_control_majority"},
        {"threat": "attribute_strongest"},
        WORTH | {"parity"},
    ),
    "a poison that does nothing": ("08", {"risk": NOTHING | {"accuracy_drop": 0.0}}, {"threat": "poison_"}, set()),
    "a server that reads nothing": ("11", {"risk": NOTHING}, {"threat": "leakage_"}, set()),
    "a generator without privacy": ("12", {"defense": "dp_sinkhorn", "private": False}, {"private": True}, set()),
    "a copy for generated images": ("12", {"defense": "none"}, {"defense": "dp_sinkhorn", "private": True}, set()),
    "an attack on inputs that does nothing": ("13", {"risk": NOTHING}, {"threat": "evasion_"}, set()),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_degenerate_component_fells_the_rows_that_praise_the_real_one(
    name: str, groups: list[Group], papers: dict[str, Paper]
) -> None:
    system, rival, real, met = PLANTS[name]
    own = [group for group in groups if next(iter(group.records.values()))["sweep"].startswith(papers[system].sweep)]
    replaced = {id(group): planted(group, in_place_of(group, own, rival)) for group in own if holds(group.config, real)}
    there = [replaced.get(id(group), group) for group in own]
    sections = tuple(f"{section}." for section in SECTIONS if section in rival) or SECTIONS
    rows = [claim for claim in papers[system].claims if claim.cells and str(claim.metric).startswith(sections)]
    concerned = [row for row in rows if matching(row.scale, row.cells, list(replaced.values()))[0]]
    inside = {row.id for row in concerned if answer(row, there).state == INSIDE}
    assert inside <= met
    assert {row.id for row in concerned if answer(row, own).state == INSIDE} - inside, "nothing fell"


def test_every_claim_asks_for_a_number_that_cells_have(groups: list[Group], papers: dict[str, Paper]) -> None:
    """A row whose metric nothing writes would be *not run* for ever."""
    records = [record for group in groups for record in group.records.values()]
    known = {f"{section}.{name}" for record in records for section in SECTIONS for name in record[section]}
    asked = {
        (f"{paper.system} {claim.id}", metric)
        for paper in papers.values()
        for claim in paper.claims
        for metric in (claim.metric, claim.against_metric, *claim.budget)
        if metric is not None
    }
    assert [(claim, metric) for claim, metric in sorted(asked) if metric not in known] == []
