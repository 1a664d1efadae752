"""Tests of the package ``gauntlet`` as a notebook uses it."""

from __future__ import annotations

import pytest
import torch

import gauntlet
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.errors import ConfigError, GauntletError, Refused
from benchmark.settings.collaboration.games.uploads import UploadThreat
from benchmark.settings.guesses import Reconstruction

QUICK = ("threat.iterations=5", "setting.rounds=2", "setting.victims=2")


class Grey(UploadThreat):
    family, headline = "gradient_leakage", "ssim"

    def attack(self, surface, rng):
        return Reconstruction(torch.full((surface.uploads.shape[1], surface.batch_size, *surface.shape), 0.5))


def test_a_cell_is_the_command_lines_cell_and_plays_with_numbers_and_pictures():
    cell = gauntlet.cell(*QUICK, threat="leakage_dlg", defense="gradient_pruning", dataset="digits", seed=1)
    assert cell.label == "leakage_dlg vs gradient_pruning on digits/lenet/smoke, seed 1"
    assert cell.config["threat"]["iterations"] == 5 and len(cell.key) == 64
    outcome = cell.play()
    assert outcome.key == cell.key and -1 <= outcome.risk["ssim"] <= 1 and 0 <= outcome.utility["test_accuracy"] <= 1
    assert outcome.figure().axes[0].get_title().startswith("reconstruction")
    assert "ssim" in outcome._repr_html_() and repr(outcome).startswith("Result('leakage_dlg vs")
    with pytest.raises(ConfigError, match=r"no picture moon; there is reconstruction"):
        outcome.figure("moon")


def test_choices_by_keyword_and_by_line_are_the_same_cell():
    lines = gauntlet.cell("defense=[gradient_clipping,gradient_noise]", "threat=leakage_dlg", "seed=2")
    assert gauntlet.cell(defense=["gradient_clipping", "gradient_noise"], threat="leakage_dlg", seed=2).key == lines.key


def test_the_same_cell_gives_the_same_numbers_whatever_the_caller_drew_before():
    cell = gauntlet.cell(*QUICK, threat="leakage_dlg")
    first = cell.play()
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    assert cell.play().risk == first.risk and torch.get_num_threads() == threads


def test_objects_of_your_own_take_the_place_of_options():
    noisy = gauntlet.cell(*QUICK, threat="leakage_dlg", defense=GradientNoise(std=1.0, distribution="gaussian"))
    assert noisy.key is None and noisy.label.startswith("leakage_dlg vs GradientNoise on digits/lenet")
    assert noisy.play().risk["ssim"] < gauntlet.cell(*QUICK, threat="leakage_dlg").play().risk["ssim"] + 1
    grey = gauntlet.cell(*QUICK[1:], threat=Grey()).play()
    assert grey.risk["ssim"] < 0.5 and grey.label.startswith("Grey vs none")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["threat=leakage_dgl"], "There is no threat 'leakage_dgl'; did you mean leakage_dlg"),
        (["threat.iters=3"], "threat has no key 'iters'; did you mean iterations"),
        (["seed=x"], "seed must be a whole number"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(overrides, message):
    with pytest.raises(ConfigError, match=message):
        gauntlet.cell(*overrides)


def test_a_pair_that_does_not_meet_is_refused_when_it_is_played():
    with pytest.raises(Refused, match="Krum changes aggregate"):
        gauntlet.cell(threat="leakage_dlg", defense="krum").play()


def test_a_dataset_that_is_no_name_is_refused():
    with pytest.raises(ConfigError, match="seed must be a name, a number or a list of names"):
        gauntlet.cell(seed={1: 2})


@pytest.mark.ci
def test_a_sweep_leaves_a_table(tmp_path):
    lines = ("threat=leakage_analytic", "defense=none", "seed=0", "threat.adaptive=false", *QUICK[1:])
    lines += ("hydra/launcher=basic",)  # the sweep has a process of its own, and its workers are tested elsewhere
    frame = gauntlet.sweep("demo", *lines, store=tmp_path)
    assert list(frame["threat"].unique()) == ["leakage_analytic"] and (frame["status"] == "ok").all()
    assert len(gauntlet.table(tmp_path, "defense == 'krum'")) == 0
    with pytest.raises(GauntletError, match="cannot be answered"):
        gauntlet.table(tmp_path, "no such column ==")
    with pytest.raises(GauntletError, match="exit code 2"):
        gauntlet.sweep("moon", store=tmp_path)
