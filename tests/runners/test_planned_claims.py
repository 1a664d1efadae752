"""Test that each claim of each scale names one cell a seed of the sweeps of its paper, so that it can be answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runners.claims.claim_evaluation import Group, groups_of, matching
from runners.claims.claims import Cells, Claim, Paper, load
from runners.sweep import plan, sweep
from runners.sweep.plan import Plan, make_plan, overrides
from tests.runners.conftest import ROOT, Command

PAPERS = load(ROOT / "results" / "reported")


def sides(claim: Claim) -> dict[str, Cells]:
    """Return the cells that the claim, what it compares with and its rivals name."""
    rivals = {name: claim.with_(over) for name, over in claim.must_fail.items() if isinstance(over, dict)}
    own = {"": claim.cells, "against": claim.other if claim.against is not None else None}
    return {name: cells for name, cells in own.items() if cells is not None} | rivals


def faults(claim: Claim, planned: list[Group]) -> list[str]:
    """Return the sides of ``claim`` that name no planned cell or several; a rival need not be planned."""
    found = []
    for name, cells in sides(claim).items():
        cells_there, reason = matching(claim.scale, cells, planned)
        if reason and name not in claim.must_fail:
            found.append(f"{claim.id} {name}: {reason}")
        if len(cells_there) > 1 and claim.reduce is None:
            found.append(f"{claim.id} {name}: {len(cells_there)} cells")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.system)
def test_every_claim_names_one_planned_cell_a_seed(
    paper: Paper, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = [claim for claim in paper.claims if claim.cells]
    wanted = {(cells["dataset"], cells["threat"]) for claim in claims for cells in sides(claim).values()}
    plans: list[Plan] = []

    def kept(*arguments: Any) -> Plan:
        plans.append(make_plan(*arguments))
        return plans[-1]

    def named(*arguments: Any) -> Iterator[tuple[str, ...]]:
        """Leave out what no claim names and all seeds but the first, which would take minutes to compose."""
        met = set()
        for lines in overrides(*arguments):
            given = dict(line.split("=", 1) for line in lines)
            group = frozenset(lines) - {f"seed={given['seed']}"}
            if group not in met and (given["dataset"], given["threat"]) in wanted:
                met.add(group)
                yield lines

    monkeypatch.setattr(sweep, "make_plan", kept)
    monkeypatch.setattr(plan, "overrides", named)
    for path in sorted((ROOT / "conf" / "sweep" / "papers").glob(f"{paper.sweep}*.yaml")):
        if path.stem == paper.sweep or path.stem.startswith(f"{paper.sweep}_"):
            assert command("plan", f"sweep=papers/{path.stem}", "--json")[0] == 0
    planned = groups_of({"config": one.cell.config, "seed": 0} for made in plans for one in made.to_run + made.finished)
    assert planned
    assert [fault for claim in claims for fault in faults(claim, planned)] == []


def test_a_claim_that_names_several_cells_or_none_is_found() -> None:
    base = {"dataset": {"name": "digits"}, "threat": {"name": "leakage_dlg"}, "scale": {"name": "cpu"}}
    cells = [base | {"setting": {"name": "collaboration", "rounds": rounds}, "defense": []} for rounds in (1, 2)]
    planned = [Group(config, {}, stale=False) for config in cells]
    given = {"id": "c", "text": "t", "where": "w", "kind": "rerun", "scale": "cpu", "metric": "risk.ssim", "at_most": 1}
    several = Claim.model_validate(given | {"cells": {"dataset": "digits"}})
    assert faults(several, planned)[0] == "c : 2 cells"
    none = Claim.model_validate(given | {"cells": {"dataset": "mnist"}})
    assert "no record has dataset=mnist" in faults(none, planned)[0]
    one = Claim.model_validate(given | {"cells": {"dataset": "digits", "setting.rounds": 2}})
    assert faults(one, planned) == []
