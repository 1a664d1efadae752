"""Tests of ``gauntlet audit``: the order of cells, the time, what is left out and why, and the page."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runners.config.compose import ComposedCell
from runners.config.pairs import derive
from runners.report import audit as report
from runners.store.records import Record, Store
from runners.sweep import audit as audits
from runners.sweep.audit import Data
from runners.sweep.execute import play_here
from runners.sweep.plan import Planned
from tests.runners.conftest import Command, composed, records

HERE = ("dataset=fake", "sweep=fake")
SIZES = {"owner": 1000, "attacker": 500, "public": 125, "calibration": 125, "test": None}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Play cells in this process, and keep their labels in the order of playing."""
    labels: list[str] = []

    def play(cell: ComposedCell, until: float) -> Record:
        labels.append(cell.label.partition(" on ")[0] + cell.label.rpartition(",")[2])
        return play_here(cell, refuse=False).record

    monkeypatch.setattr(audits, "within", play)
    monkeypatch.setattr(audits, "PUBLISHED", Path("nowhere"))  # reading all published times takes a while
    return labels


class Links(HTMLParser):
    """Everything that a page would fetch, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.update(filter(None, [found.get("id")]))
        if (target := found.get("href")) and target.startswith("#"):
            self.targets.add(target[1:])
        self.fetched += [value for name in ("src", "href") if (value := found.get(name)) and value[0] != "#"]


# -- the command ------------------------------------------------------------------------------------------------------
@pytest.mark.ci
def test_an_audit_plays_reports_and_goes_on_where_it_stopped(
    command: Command, at_once: list[str], tmp_path: Path
) -> None:
    code, out, error = command("audit", *HERE, "--minutes", "5", "jobs=1")
    assert code == 0, error
    assert "8 cells played (8 ok), 0 not tried." in out
    assert at_once[:2] == ["fake vs none seed 0", "fake_input vs none seed 0"], "families take turns, undefended first"
    assert "fake (adaptive) vs none seed 0" not in at_once, "there is nothing to adapt to"
    assert at_once.index("fake (adaptive) vs gradient_noise seed 0") < at_once.index("fake vs none seed 1")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    seen = Links(page)
    assert all(value.startswith("data:") for value in seen.fetched) and seen.targets <= seen.ids
    assert "data:image/png;base64," in page and "leaks" in page
    assert "FakeInputThreat attacks the surface" in page, "pairs that cannot meet have their reason"
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| gradient_noise |" in re.sub(" +", " ", text)
    for line in ("threat=fake threat.adaptive=True", "defense=gradient_noise"):
        assert line in page and line in text
    at_once.clear()
    code, out, _ = command("audit", *HERE, "jobs=1")
    assert code == 0 and at_once == [] and "8 cells apply here, 8 of them are finished" in out
    assert (tmp_path / "report.html").read_text(encoding="utf-8").replace(" --minutes 5", "") == page.replace(
        " --minutes 5", ""
    )


def test_the_time_is_kept_and_what_did_not_fit_is_told(
    command: Command, at_once: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell takes 1,250 seconds by a made-up clock, so the third uses up what is left of an hour."""
    monkeypatch.setattr(audits, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 1250 * len(at_once)))
    code, out, _ = command("audit", *HERE, "--minutes", "60", "--seeds", "3", "jobs=1")
    assert code == 0 and len(at_once) == 3
    assert "3 cells played (3 ok), 9 not tried." in out and "goes on with the rest" in out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "9 cells did not fit into the time" in page and "The time was up" in page
    assert len(records(tmp_path)) == 3


def test_an_attack_that_does_not_work_is_held_against_no_defense(
    command: Command, at_once: list[str], tmp_path: Path
) -> None:
    code, _, error = command("audit", *HERE, "threat=fake", "threat.does=lose", "--seeds", "1", "jobs=1")
    assert code == 0, error
    assert at_once == ["fake vs none seed 0"], "a threat that is named chooses among those of the audit"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The attack has no number without a defense to compare with" in page
    assert "not measured" in page and "nothing is shown" in page


def test_a_failed_cell_has_its_reason_as_text(
    command: Command, at_once: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record may come from a stranger: its reason is shown and not obeyed."""
    play = audits.within
    evil = "<script>alert(1)</script> [x](javascript:y)"
    monkeypatch.setattr(audits, "within", lambda *given: replace(play(*given), reason=evil))
    code, out, _ = command("audit", *HERE, "threat.does=fail", "--seeds", "1", "jobs=1")
    assert code == 0 and "2 failed" in out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Played without a number" in page and "&lt;script&gt;alert(1)" in page
    assert "<script" not in page + text and "](javascript" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Name the data: dataset=digits"),
        (("dataset=digits", "--minutes", "0"), "--minutes must be a number above 0, got 0."),
        (("dataset=digits", "--minutes", "-2"), "--minutes must be a number above 0, got -2."),
        (("dataset=digits", "--minutes", "nan"), "--minutes must be a number above 0, got nan."),
        (("dataset=digits", "--minutes", "soon"), "invalid float value: 'soon'"),
        (("dataset=digits", "--seeds", "0"), "--seeds must be a whole number from 1 up, got 0."),
        (("dataset=digits", "--settings", "deploy"), "There is no setting 'deploy'; did you mean deployment?"),
        (("dataset=digits", "--settings", ","), "--settings names no setting"),
        (("dataset=digits", "--hours", "3"), "nrecognized arguments: --hours"),
        (("dataset=digits", "fast"), "'fast' is not an override"),
        (("dataset=digts",), "There is no dataset 'digts'; did you mean digits"),
        (("dataset=npz", "dataset.path=none.npz", "data.root=/nowhere"), "where there is no file"),
        (("dataset=fake", "sweep=fake", "threat=leakage_dlg"), "No cell of the sweep has threat=leakage_dlg"),
        (("dataset=fake", "sweep=fake", "jobs=0"), "jobs must be a whole number from 1 up"),
    ],
)
def test_a_mistake_is_one_sentence(
    command: Command, at_once: list[str], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, _, error = command("audit", *arguments)
    assert code == 2 and words in error and "Traceback" not in error
    assert records(tmp_path) == []


def test_a_file_is_no_folder_for_a_report(command: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    code, _, error = command("audit", "dataset=digits", "--out", str(tmp_path / "taken"))
    assert code == 2 and "is a file; give a folder" in error
    assert (tmp_path / "taken").read_text() == "mine"


# -- the data ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (Data("image", (1, 28, 28), 10, 60000, 500, SIZES), []),
        (Data("image", (1, 28, 28), 10, 60000, 10000, SIZES), ["dataset.sizes.test=1000"]),
        (Data("tabular", (9,), 2, 5000, 10, {**SIZES, "test": 10}), []),
        (
            Data("image", (1, 8, 8), 10, 875, 400, {**SIZES, "test": 600}),
            [
                f"dataset.sizes.{r}={n}"
                for r, n in (("owner", 500), ("attacker", 250), ("public", 62), ("calibration", 62))
            ]
            + ["dataset.sizes.test=400"],
        ),
    ],
)
def test_cells_ask_for_what_the_data_can_give(data: Data, lines: list[str]) -> None:
    assert data.overrides() == lines


# -- time -------------------------------------------------------------------------------------------------------------
@dataclass
class Composed:
    """As much of a composed cell as an order and an estimate need."""

    config: dict[str, Any]
    key: str = "k"


def planned(threat: str, defense: str = "none", seed: int = 0, adaptive: bool = False) -> Planned:
    config = {
        "threat": {"name": threat, "adaptive": adaptive},
        "defense": [{"name": defense}],
        "dataset": {"name": "digits"},
        "scale": {"name": "smoke"},
        "setting": {"name": "collaboration"},
        "model": {"name": "mlp"},
        "seed": seed,
    }
    lines = (f"threat={threat}", f"threat.adaptive={adaptive}", f"defense={defense}", f"seed={seed}")
    return Planned(Composed(config, "/".join(lines)), lines)  # type: ignore[arg-type]


def test_a_cell_is_expected_to_take_what_such_cells_took(tmp_path: Path) -> None:
    times = audits.Times(Store(tmp_path), None)
    cell = planned("leakage_dlg", "dp_sgd")
    assert times.estimate(cell) is None
    times.published["leakage_dlg", audits.OTHER_DATA, "smoke"] += [4.0, 8.0]
    assert times.estimate(cell) == 6.0
    times.published["leakage_dlg", "digits", "smoke"] += [3.0]
    assert times.estimate(cell) == 3.0
    for threat, defense, seconds in (("leakage_dlg", "none", 2.0), ("leakage_idlg", "dp_sgd", 9.0)):
        times.add({"key": "x", "status": "ok", "seconds": seconds, "threat": threat, "defense": defense})
    assert times.estimate(cell) == 9.0, "the slower of what the attack and the defense took"
    assert times.estimate(planned("leakage_dlg")) == 2.0
    times.add(
        {"key": cell.cell.key, "status": "timeout", "seconds": 20.0, "threat": "leakage_dlg", "defense": "dp_sgd"}
    )
    assert times.estimate(cell) == 30.0, "one that was stopped needs more than it had"


def test_no_family_is_left_out_and_cheap_defenses_come_first() -> None:
    defenses = ["none", "gradient_pruning", "gradient_noise", "dp_sgd", "soteria"]
    threats = ["leakage_idlg", "leakage_dlg", "poison_ipm"]
    cells = [
        planned(threat, defense, seed, adaptive)
        for threat in threats
        for defense in defenses
        for seed in (0, 1)
        for adaptive in (False, True)
    ]
    found = audits.ordered(reversed(cells), [cell.overrides for cell in cells], derive())
    assert len(found) == len(cells) - len(threats) * 2, "adaptive forms without a defense repeat the plain ones"
    told = [(audits.threat_of(p), audits.defense_of(p), p.cell.config["seed"], audits.is_adaptive(p)) for p in found]
    assert told[:3] == [
        ("leakage_idlg", "none", 0, False),
        ("poison_ipm", "none", 0, False),
        ("leakage_dlg", "none", 0, False),
    ]
    assert told[3:5] == [("leakage_idlg", "gradient_pruning", 0, False), ("poison_ipm", "gradient_pruning", 0, False)]
    last = {defense: max(i for i, cell in enumerate(told) if cell[1] == defense) for defense in defenses}
    assert last["dp_sgd"] < min(i for i, cell in enumerate(told) if cell[1] == "soteria")


def test_brought_data_and_models_refuse_what_only_the_data_can_tell(tmp_path: Path) -> None:
    """The class of a data set in a file does not know whether there is a sensitive attribute, or an image."""
    y = np.arange(60) % 2
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).random((60, 5)), y=y)
    lines = ("dataset=arrays", f"dataset.path={tmp_path / 'mine.npz'}")
    cells = [composed(*lines, f"threat={name}") for name in ("leakage_idlg", "attribute_strongest")]
    cells.append(composed(*lines, "threat=leakage_idlg", "model=convnet_bn"))
    data = audits.look(cells[0])
    assert (data.kind, data.shape, data.classes, data.train, data.test) == ("tabular", (5,), 2, 42, 18)
    assert data.overrides() == [], "its sizes are shares of what there is"
    refused: Counter[str] = Counter()
    left = list(audits._fitting([Planned(cell, ()) for cell in cells], data, refused))
    assert [audits.threat_of(planned) for planned in left] == ["leakage_idlg"]
    assert list(refused) == [
        "StrongestAttacker needs dataset.sensitive=yes, but here it is no.",
        "model=convnet_bn needs images, but a sample of this dataset has shape (5,); use model=mlp.",
    ]


# -- the page ---------------------------------------------------------------------------------------------------------
def test_one_command_plays_the_seeds_of_a_number() -> None:
    cells = [planned("leakage_dlg", "dp_sgd", seed) for seed in (1, 0)]
    assert report.command(cells) == ("gauntlet run -m threat=leakage_dlg threat.adaptive=False defense=dp_sgd seed=0,1")
    assert report.command(cells[1:]).startswith("gauntlet run threat=leakage_dlg")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_audit_of_digits(command: Command, tmp_path: Path) -> None:
    begun = time.monotonic()
    code, _, error = command("audit", "dataset=digits", "--minutes", "1.5", "--settings", "deployment", "--seeds", "1")
    assert code == 0, error
    assert time.monotonic() - begun < 100, "it stops in time"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Deployment: evasion" in page and "evasion_control_random" in page and "can be harmed" in page
    assert "threat=leakage" not in page
