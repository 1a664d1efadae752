"""Tests of the ranking of a board: protocols never mix, missing cells are shown, all outputs agree."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ConfigError, GauntletError
from benchmark.libraries import Library
from gauntlet import ranking as ranking_of
from runners.config.faces import Face, faces
from runners.report import board_text, boards, leaderboard, markdown, tables
from runners.report.boards import Board
from runners.report.ranking import Standing, rank
from runners.report.site import build
from runners.report.source import compact
from runners.sweep import membership
from runners.sweep.membership import Member
from tests.runners.synthetic import record

FACE = Face("Leaks <of> digits", "Who sees what?", 1, "ssim", "test_accuracy", "three", "Digits & a LeNet.")
SEEDS = range(3)


def cells(threat: str, defense: str, risks: Sequence[float], **others: Any) -> list[dict[str, Any]]:
    return [record(threat, defense, risk=risk, seed=seed, **others) for seed, risk in enumerate(risks)]


def played() -> list[dict[str, Any]]:
    """Return two threats, one of them adaptive too, against four defenses; `holey` lacks a seed of one of them."""
    found = cells("leakage_control_mean", "none", [0.1] * 3, control="negative", accuracy=0.9)
    for defense, direct, knowing, other, accuracy in (
        ("none", 0.9, 0.9, 0.8, 0.9),
        ("strong", 0.2, 0.25, 0.7, 0.85),
        ("cheap", 0.5, 0.55, 0.4, 0.89),
        ("like_cheap", 0.5, 0.551, 0.4, 0.7),
        ("holey", 0.15, 0.15, 0.15, 0.9),
    ):
        noise = [0.01, 0.0, -0.01] if defense == "like_cheap" else [0.0, 0.01, -0.01]
        for adaptive, risk in ((False, direct), (True, knowing)):
            found += cells("leakage_dlg", defense, [risk + n for n in noise], adaptive=adaptive, accuracy=accuracy)
        found += cells("leakage_idlg", defense, [other + n for n in noise], accuracy=accuracy)
    return found[:-1]


HOLE = record("leakage_idlg", "holey", seed=2)


def board(records: list[dict[str, Any]], missing: Sequence[dict[str, Any]] = (HOLE,), face: Face = FACE) -> Board:
    """Return a board that plans ``records`` and the ``missing`` ones, which were not played."""
    planned = [Member(one["key"], one["seed"], one["config"]) for one in (*records, *missing)]
    return boards.build(list(compact(records)), {"leakage_test": (face, planned)})[0]


def order(found: Board, **chosen: Any) -> list[str]:
    assert found.contest is not None
    return [one.entrant.defense for one in rank(found.contest, **chosen)]


def test_rows_are_ranked_by_their_worst_case_and_holes_are_told() -> None:
    found = board(played())
    assert order(found) == ["leakage_control_mean", "cheap", "like_cheap", "strong", "none", "holey"]
    standings = {one.entrant.defense: one for one in boards.ranked(found)}
    assert {name: one.place for name, one in standings.items()} == {
        **dict.fromkeys(("leakage_control_mean", "none", "holey")),
        "cheap": 1,
        "like_cheap": 2,
        "strong": 3,
    }
    worst = {name: (one.attack.label if one.attack else None) for name, one in standings.items()}
    assert worst["strong"] == "leakage_idlg" and worst["cheap"] == "leakage_dlg · adaptive"
    assert [name for name, one in standings.items() if one.tied] == ["like_cheap"]
    assert [name for name, one in standings.items() if one.front] == ["cheap", "none"]
    assert standings["cheap"].met is not None and standings["cheap"].met.share == pytest.approx((0.55 - 0.1) / 0.8)
    assert not standings["holey"].complete and board_text.worst_of(standings["holey"]).startswith("≥ ")


def test_a_board_tells_what_was_played_and_what_it_cost() -> None:
    hours = [row | {"seconds": 1800.0} for row in cells("leakage_dlg", "none", [0.9] * 3)]
    assert board(hours).progress == "3 of 4 planned cells were played, in 1.5 core-hours"
    told = [row | {"diagnostics": {"shared_seconds": 900.0, "attack_seconds": 450.0}} for row in hours]
    parts = "(50% in training that cells share, 25% in attacks)"
    assert board([*told[:2], hours[2]]).progress == f"3 of 4 planned cells were played, in 1.5 core-hours {parts}"
    assert board([told[0], *hours[1:]]).progress.endswith("in 1.5 core-hours")


def test_the_form_that_no_undefended_cell_was_played_of_counts_once() -> None:
    records = [*cells("leakage_dlg", "none", [0.9] * 3), *cells("leakage_dlg", "strong", [0.2] * 3, adaptive=True)]
    found = board(records, missing=cells("leakage_dlg", "none", [0.9] * 3, adaptive=True))
    assert (found.planned, found.played) == (9, 6)


def test_an_undefended_cell_beside_both_forms_counts_once() -> None:
    both = [one for adaptive in (False, True) for one in cells("leakage_dlg", "strong", [0.2] * 3, adaptive=adaptive)]
    found = board([*cells("leakage_dlg", "none", [0.9] * 3), *both], missing=())
    assert (found.planned, found.played) == (9, 9)


def test_nobody_has_a_place_while_an_attack_has_no_number_without_a_defense() -> None:
    here = cells("leakage_dlg", "none", [0.9] * 3) + cells("leakage_dlg", "strong", [0.2] * 3)
    bare = cells("leakage_dlg", "none", [0.9] * 3, model="mlp")
    defended = cells("leakage_dlg", "strong", [1.0] * 3, model="mlp")

    def strong(played: list[dict[str, Any]], missing: list[dict[str, Any]]) -> Standing:
        return next(one for one in boards.ranked(board(played, missing)) if one.entrant.defense == "strong")

    for one in (strong(here, bare + defended), strong(here + defended, bare)):
        assert (one.place, one.front, one.complete, one.worst) == (None, False, False, pytest.approx(0.2))
        assert board_text.worst_of(one).startswith("≥ ")
    assert strong(here + bare + defended, []).place == 1
    assert strong(here + bare + defended, []).worst == 1


def test_a_defense_that_changes_nothing_is_not_on_the_front() -> None:
    records = [row for name in ("none", "idle") for row in cells("leakage_dlg", name, [0.9] * 3)]
    standings = boards.ranked(board([*records, *cells("leakage_dlg", "real", [0.5] * 3, accuracy=0.9)], missing=()))
    assert [one.entrant.defense for one in standings if one.front] == ["real", "none"]


def test_a_reader_chooses_threats_and_the_utility_that_he_can_lose() -> None:
    found = board(played())
    assert order(found, threats={"leakage_dlg"})[1:4] == ["holey", "strong", "cheap"]
    few = boards.ranked(found, ["leakage_dlg"], 0.02)
    assert [one.entrant.defense for one in few if not one.affordable] == ["strong", "like_cheap"]
    assert [one.entrant.defense for one in few if one.place == 1] == ["holey"]
    with pytest.raises(GauntletError, match="no threat 'leakage_dgl' that works there; did you mean leakage_dlg"):
        boards.ranked(found, ["leakage_dgl"])
    with pytest.raises(GauntletError, match="is the table of a sweep and ranks nothing"):
        boards.ranked(boards.build(list(compact(played())))[0])


def test_a_defended_cell_is_never_worse_than_undefended_through_mixing() -> None:
    """A defense that met the harder protocol alone is held against no defense there, and not against both."""
    easy, hard = {"model": "easy"}, {"model": "hard"}
    records = [*cells("leakage_dlg", "none", [0.6] * 3, **easy), *cells("leakage_dlg", "none", [0.9] * 3, **hard)]
    halved = cells("leakage_dlg", "halving", [0.45] * 3, **hard)
    lost = cells("leakage_dlg", "halving", [0.2] * 3, **easy)
    found = board([*records, *halved], missing=lost)
    standings = {one.entrant.defense: one for one in boards.ranked(found)}
    half = standings["halving"]
    assert half.met is not None and (half.worst, half.met.bare) == (pytest.approx(0.45), pytest.approx(0.9))
    assert not half.complete and half.place is None
    assert [
        (one.entrant.defense, one.place) for one in boards.ranked(board([*records, *halved, *lost], missing=()))
    ] == [
        ("halving", 1),
        ("none", None),
    ]
    for one in standings.values():
        assert all(met.bare is None or sum(met.risk.values()) / 3 <= met.bare for met in one.entrant.met.values())


def test_membership_goes_by_key_and_missing_cells_are_counted() -> None:
    records = played()
    for one in records[:9]:
        one["sweep"] = "elsewhere"
    stray = record("leakage_dlg", "dp_sgd", risk=0.0) | {"sweep": "leakage_test"}
    missing = [HOLE, record("leakage_ggl", "strong", seed=0)]
    planned = [Member(one["key"], one["seed"], one["config"]) for one in (*records, *missing)]
    everything = boards.build(list(compact([*records, stray])), {"leakage_test": (FACE, planned)})
    found = everything[0]
    assert (found.played, found.planned) == (len(records), len(records) + 2)
    assert "dp_sgd" not in found.defenses and everything[-1].name == boards.ALONE
    section = found.sections[0]
    cell = next(row for row in section.rows if row.defense == "holey").cells["leakage_idlg"]
    assert cell.lost == {"not run": 1}
    assert not next(row for row in section.rows if row.defense == "strong").cells["leakage_ggl"].played


def test_every_output_tells_the_same_ranking() -> None:
    found = board(played())
    assert found.contest is not None
    standings = rank(found.contest)
    lines = list(csv.DictReader(io.StringIO(tables.ranking(standings))))
    assert [line["defense"] for line in lines] == order(found)
    _, texts = board_text.ranking(found.contest, standings)
    page = markdown.page(found)
    assert "# Leaks &lt;of&gt; digits" in page
    for text in texts:
        assert re.search(r"\| +".join(re.escape(part) + " *" for part in text), page)
    files = build.files(leaderboard.Contents([found], [], {}), "results")
    html = files["boards/leakage_test.html"]
    shown = re.findall(r'data-defense="([^"]+)"', html)
    assert shown == order(found) and files["boards/leakage_test-ranking.csv"] == tables.ranking(standings)
    data = json.loads(re.search(r'<script type="application/json" id="contest">(.*?)</script>', html, re.S)[1])  # type: ignore[index]
    assert [entrant["defense"] for entrant in data["entrants"]] == [e.defense for e in found.contest.entrants]
    assert "Who sees what?" in files["index.html"] and "cheap" in files["index.html"]


def test_threats_that_are_unranked_are_shown_and_rank_nobody() -> None:
    found = board(played(), face=replace(FACE, unranked=("leakage_idlg",)))
    assert found.threats == {"leakage_dlg", "leakage_idlg"} and found.contest.threats == ["leakage_dlg"]
    assert [one.entrant.defense for one in found.standings if one.place == 1] == ["holey"]
    assert not found.standings[0].tied and all(one.complete for one in found.standings)


def test_a_board_has_the_same_cells_whatever_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "missing", lambda library: "needs something, which is not installed")
    monkeypatch.setattr("runners.sweep.judge.recall", lambda name: None)  # not what was found before
    planned = [member.config["threat"]["name"] for member in membership._planned("evasion_mnist")]
    assert len(planned) == 162 and planned.count("evasion_autoattack") == 12


@pytest.mark.slow
def test_sweeps_of_boards_can_be_planned() -> None:
    for name, face in faces().items():
        planned = {member.config["threat"]["name"] for member in membership.members(name)}
        assert planned and planned >= set(face.unranked), name


def test_boards_have_whole_faces(tmp_path: Path) -> None:
    assert {"release_tables", "leakage_cifar"} <= faces().keys()
    (tmp_path / "half.yaml").write_text("board: {title: x}\n")
    with pytest.raises(ConfigError, match="The board half needs exactly the entries headline, protocol"):
        faces(tmp_path)


def test_an_unknown_board_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match="has no board 'leakage_mars'"):
        ranking_of("leakage_mars", tmp_path)
