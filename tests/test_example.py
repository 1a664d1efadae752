"""Tests of the examples, components in packages of their own: played, attacked adaptively, refused, submitted."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gauntlet
from runners.cli import main as cli
from runners.cli import submission
from runners.config.faces import Face
from runners.config.identity import digest
from runners.report.site import build as site
from runners.sweep.membership import Member
from tests.runners.conftest import ROOT, main

PACKAGE = ROOT / "examples" / "sign_upload"
OTHERS = ("step_back", "wine_cultivars")
OURS = ("defense=sign_upload", "hydra.searchpath=[pkg://sign_upload.conf]")
TRUSTED = "trusted=[sign_upload.]"
FACE = Face("Leaks", "Who sees what?", 1, "ssim", "test_accuracy", "one", "Digits.")
CELL = ("threat=leakage_analytic", "model=mlp", "setting.rounds=1", "setting.victims=2", "cache=false")

Play = Callable[..., tuple[int, str]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Play:
    """Return ``play(*overrides)`` -> (exit code, stderr), with the package installed and the store in ``tmp_path``."""
    monkeypatch.syspath_prepend(PACKAGE)

    def call(*overrides: str) -> tuple[int, str]:
        code = main(monkeypatch, "run", *overrides, f"store={tmp_path}")
        return code, capfd.readouterr().err

    return call


@pytest.mark.ci
def test_it_is_played_against_an_adaptive_threat_has_a_page_and_is_submitted(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, error = play(*CELL, "threat.adaptive=true", *OURS, TRUSTED)
    assert code == 0, error
    (path,) = tmp_path.glob("records/*/*.json")
    record = json.loads(path.read_text())
    assert record["config"]["defense"] == [
        {"name": "sign_upload", "provider": "sign_upload", "version": 1, "share": 1.0}
    ]
    assert record["versions"]["components"]["defense/sign_upload"]["version"] == 1
    site.write(tmp_path, tmp_path / "site")
    assert (tmp_path / "site" / "defenses" / "sign_upload.html").is_file()
    bare = {**record["config"], "defense": [{"name": "none", "provider": "benchmark", "version": 1}]}
    monkeypatch.setattr(submission, "faces", lambda: {"toy": FACE})
    monkeypatch.setattr(submission, "members", lambda name: [Member(digest(bare), bare["seed"], bare)])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (PACKAGE, ROOT))))  # of the process that plays it anew
    bundle = str(tmp_path / "mine.zip")
    for words, told in (
        (
            ("submit", "toy", "--store", str(tmp_path), "--defense", "sign_upload", "--to", bundle),
            "1 records, defense/defense.py",
        ),
        (("verify", bundle), "1 of 1 cells played anew: the numbers agree."),
    ):
        monkeypatch.setattr(sys, "argv", ["gauntlet", *words, OURS[1], TRUSTED])
        assert cli.main() == 0, capfd.readouterr().err
        assert told in capfd.readouterr().out


def test_without_trust_it_is_not_run(play: Play) -> None:
    code, error = play(*CELL, *OURS)
    assert code == 2
    assert "imports the package sign_upload" in error and "trusted=[sign_upload.]" in error


def test_on_another_surface_it_is_refused(play: Play) -> None:
    code, error = play("threat=evasion_jsma", *OURS, TRUSTED)
    assert code == 2
    assert "surface" in error


def test_a_wrong_parameter_is_told(play: Play) -> None:
    code, error = play(*CELL, *OURS, TRUSTED, "defense.sign_upload.share=0")
    assert code == 2
    assert "must be in (0, 1]" in error


def test_a_threat_on_a_dataset_each_in_its_own_package_reaches_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in OTHERS:
        monkeypatch.syspath_prepend(PACKAGE.parent / package)
    search = ",".join(f"pkg://{package}.conf" for package in OTHERS)
    trusted = ",".join(f"{package}." for package in OTHERS)
    chosen = ("threat=poison_step_back", "dataset=wine_cultivars", "model=mlp")
    outcome = gauntlet.cell(*chosen, f"hydra.searchpath=[{search}]", f"trusted=[{trusted}]").play()
    assert outcome.utility["test_accuracy"] > 0.9
    assert outcome.risk["accuracy_drop"] >= importlib.import_module("step_back.threat").StepBack.floor.at_least


def test_the_wines_are_cut_into_disjoint_roles_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PACKAGE.parent / "wine_cultivars")
    data = importlib.import_module("wine_cultivars.dataset").WineCultivars().load(None, seed=0)
    roles = [data.owner, data.attacker, data.public, data.calibration, data.test]
    rows = torch.cat([role.x for role in roles])
    assert len(rows.unique(dim=0)) == len(rows) == 178
    assert rows.min() >= 0 and rows.max() <= 1
    assert all(set(role.y.tolist()) == {0, 1, 2} for role in roles)
