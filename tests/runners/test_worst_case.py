"""Tests of the worst case: paired by protocol and seed, the same in every output."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from runners.config.pairs import Matrix
from runners.report import latex, markdown, tables, terminal
from runners.report.boards import Board, build
from runners.report.site.model import blocks
from runners.report.source import compact
from runners.report.worst_case import Comparison, compare, highest, worst_case
from tests.runners.synthetic import record

EASY, HARD = {0: 0.9, 1: 0.8}, {0: 0.2, 1: 0.1}


def two_protocols() -> list[dict[str, Any]]:
    """Return records of an easy model with risk 0.85 undefended and a hard one with 0.15.

    The defense halves both, but met the easy one alone in seed 1. Mixed, it has (0.45 + 0.1 + 0.4) / 3 = 0.317 and
    none has 0.5.
    """
    bare = [record(model=m, seed=s, risk=r, floor=None) for m, of in (("a", HARD), ("b", EASY)) for s, r in of.items()]
    halved = [("b", 0, 0.45), ("b", 1, 0.40), ("a", 0, 0.10)]
    return [*bare, *(record(defense="halving", model=m, seed=s, risk=r, floor=None) for m, s, r in halved)]


def easy_only() -> list[dict[str, Any]]:
    """Return records of a defense that removes a third of the risk, but met the easy model alone.

    It has 0.6 and 0.533, where none has 0.5 over both models.
    """
    bare = [record(model=m, seed=s, risk=r, floor=None) for m, of in (("a", HARD), ("b", EASY)) for s, r in of.items()]
    return [*bare, *(record(defense="weak", model="b", seed=s, risk=r * 2 / 3, floor=None) for s, r in EASY.items())]


def board(records: list[dict[str, Any]]) -> Board:
    (found,) = build(list(compact(records)))
    return found


def test_only_seeds_that_both_have_are_compared() -> None:
    found = compare({0: 0.5, 2: 0.9}, {0: 1.0, 1: 0.2}, chance=0.2)
    assert (dict(found.risk), dict(found.undefended)) == ({0: 0.5}, {0: 1.0})
    assert found.share == pytest.approx(0.375)
    assert compare({2: 0.9}, {0: 1.0}).summary is None


@pytest.mark.parametrize("bare", [{}, {0: 0.1}, {0: 0.2}])
def test_no_share_where_the_attack_does_not_beat_chance(bare: dict[int, float]) -> None:
    assert Comparison({0: 0.1}, bare, chance=0.2).share is None


def test_the_worst_case_is_the_attack_of_highest_risk_not_of_the_greatest_share() -> None:
    attacks = {
        "strong": compare({0: 0.5}, {0: 1.0}),
        "feeble": compare({0: 0.3}, {0: 0.3}),
        "lost": compare({}, {0: 1.0}),
    }
    found = worst_case(attacks)
    assert found is not None and (found.threat, found.mean, found.complete) == ("strong", 0.5, False)
    assert worst_case({"lost": attacks["lost"]}) is None
    assert highest([], lambda one: one) is None


def test_equal_risks_go_by_name() -> None:
    found = worst_case({name: compare({0: 0.5}, {0: 1.0}) for name in ("b", "a")})
    assert found is not None and found.threat == "a"


def test_protocols_are_compared_each_with_its_own_undefended_runs() -> None:
    records = easy_only()
    mixed = {
        name: _mean(one for one in records if one["config"]["defense"][0]["name"] == name) for name in ("none", "weak")
    }
    assert mixed["weak"] > mixed["none"], "what mixing protocols would show: the defense looks worse than none"
    for section in board(records).sections:
        for row in section.rows:
            worst = row.worst["ssim"]
            assert worst is None or worst.mean <= (worst.comparison.bare or 0.0)
    easy = board(records).sections[1].rows[1].worst["ssim"]
    assert easy is not None and easy.comparison.share == pytest.approx(2 / 3)


def _mean(records: Any) -> float:
    values = [one["risk"]["ssim"] for one in records]
    return sum(values) / len(values)


@pytest.mark.parametrize("records", [two_protocols(), easy_only()])
def test_the_overview_shows_one_protocol_and_colours_it_by_the_same_cells(records: list[dict[str, Any]]) -> None:
    places = {"leakage_dlg": ("collaboration", "uploads")}
    matrix = Matrix(places=places, needs={}, controls={}, acting={}, hooks={}, refused={})
    (block,) = blocks([board(records)], matrix)
    shown = {defense: pair.entries[0] for (_, defense), pair in block.pairs.items()}
    none, defended = shown.pop("none"), shown.popitem()[1]
    assert none.cell.summary is not None and defended.cell.summary is not None
    assert none.section.model == defended.section.model == "b"
    assert defended.cell.summary.mean < none.cell.summary.mean
    assert defended.undefended == none.cell.summary.mean
    assert defended.remaining == pytest.approx(defended.cell.summary.mean / none.cell.summary.mean)
    assert (none.shade, defended.shade) == ("r10", f"r{round(defended.remaining * 10)}")


def test_every_output_shows_the_same_worst_case() -> None:
    shown = board(two_protocols())
    easy = shown.sections[1]
    worst = easy.rows[1].worst["ssim"]
    assert worst is not None and worst.mean == pytest.approx(0.425)
    line = next(one for one in markdown.page(shown).splitlines() if one.startswith("| halving ") and "0.425" in one)
    assert "0.850" in line and "50 %" in line
    rows = list(csv.DictReader(io.StringIO(tables.board(shown))))
    (row,) = (one for one in rows if one["defense"] == "halving" and one["model"] == "b")
    assert (row["risk"], row["undefended"], row["left"], row["worst case"]) == ("0.425", "0.85", "0.5", "yes")
    assert "0.425" in latex.table(easy) and "0.850" in latex.table(easy)
    assert "0.425" in _printed(shown) and "50 %" in _printed(shown)


def _printed(shown: Board) -> str:
    from rich.console import Console

    out = io.StringIO()
    terminal.show(Console(file=out, width=120), [shown])
    return out.getvalue()


def test_controls_and_attacks_that_do_not_work_are_no_worst_case() -> None:
    records = [
        *(record(defense=name, risk=0.6) for name in ("none", "dp_sgd")),
        *(record("leakage_weak", name, risk=risk) for name, risk in (("none", 0.2), ("dp_sgd", 0.8))),
        *(record("leakage_copy", name, risk=1.0, control="positive") for name in ("none", "dp_sgd")),
        *(record(defense=name, risk=0.7, adaptive=True) for name in ("none", "dp_sgd")),
    ]
    worst = board(records).sections[0].rows[1].worst["ssim"]
    assert worst is not None and (worst.threat, worst.mean) == ("leakage_dlg · adaptive", 0.7)
