"""Tests that the committed boards and claims equal, byte for byte, those made from the committed records."""

from __future__ import annotations

import csv

import pytest
from hydra.utils import get_object

from benchmark.parameters import validated
from runners.claims.claim_evaluation import FAULTS
from runners.config import catalogue
from runners.config.identity import canonical, labelled
from runners.config.syntax import SUITE
from runners.report import leaderboard, output
from runners.store.table import read_all
from tests.runners.conftest import ROOT

RESULTS = ROOT / "results"
BOARDS = RESULTS / leaderboard.BOARDS


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


def test_no_published_parameter_is_out_of_bounds() -> None:
    """A bound that a published cell breaks would make its record impossible to run again."""
    checked = {
        canonical(node): (label, node) for record in read_all(RESULTS) for label, node in labelled(record["config"])
    }
    assert checked
    for label, node in checked.values():
        target = catalogue.target(label, str(node["provider"]))
        if target is not None and str(node["provider"]) == SUITE:
            plain = {
                name: value for name, value in node.items() if name not in ("name", "class", "provider", "version")
            }
            validated(get_object(target), plain, label)
