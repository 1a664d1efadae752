"""Combinations of original and mapped people, damage column by column, and the picture of a map."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmark.cell import Cell, play
from benchmark.data.base import Split
from benchmark.data.lipton import Lipton
from benchmark.defenses.none import NoDefense
from benchmark.models.mlp import MLP
from benchmark.outcome import Outcome
from benchmark.settings.defense import Defense
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.settings.release.measures.scenarios import Damage, QuantilePicture, Scenarios, damage, group_quantiles
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.attribute_inference.controls import Majority

PEOPLE = Lipton(sizes={"owner": 300, "attacker": 50, "public": 0, "calibration": 20, "test": 200})


class Liar(ReleaseMechanism):
    """Mechanism that leaves records alone and inverts every decision."""

    def release(self, private: Split, rng: torch.Generator) -> Release:
        return Release(private.x, 1 - private.y, torch.arange(len(private)), sensitive=private.sensitive)

    def encode_people(self, people: Split) -> Split:
        return Split(people.x, 1 - people.y, people.sensitive)


def measured(defense: Defense) -> Outcome:
    measures = {"scenarios": Scenarios(epochs=100), "damage": Damage(), "quantiles": QuantilePicture(columns=1)}
    setting = ReleaseSetting(epochs=100, examiner_epochs=1, victims=10, candidates=10, measures=measures)
    net = partial(MLP, hidden=[16], activation="relu")
    return play(Cell(PEOPLE, net, setting, Majority(), [defense], seed=0))[0]


def test_without_a_map_all_scenarios_are_one() -> None:
    outcome = measured(NoDefense())
    names = ("baseline", "data_publishing", "fair_classifier", "soa", "local_sanitisation")
    reached = {outcome.utility[f"{name}_accuracy"] for name in names}
    assert max(reached) - min(reached) < 0.05 and min(reached) > 0.8
    for name in names:
        assert outcome.diagnostics[f"{name}_accuracy_on_mapped_labels"] == outcome.utility[f"{name}_accuracy"]
        assert f"{name}_demographic_parity_gap" in outcome.diagnostics
    assert outcome.diagnostics["damage_numbers_80"] == 0
    assert outcome.pictures["quantiles"].shape == (1, 2, 3, 190, 260)
    assert outcome.captions["quantiles"] == ["column 0"], "hair is what tells the groups apart"


def test_a_map_that_rewrites_decisions_shows_by_the_labels_as_they_were() -> None:
    outcome = measured(Liar())
    for name in ("data_publishing", "fair_classifier"):  # trained on wrong labels
        assert outcome.utility[f"{name}_accuracy"] < 0.2
        assert outcome.diagnostics[f"{name}_accuracy_on_mapped_labels"] > 0.8
    for name in ("baseline", "soa", "local_sanitisation"):  # trained on the true ones
        assert outcome.utility[f"{name}_accuracy"] > 0.8
        assert outcome.diagnostics[f"{name}_accuracy_on_mapped_labels"] < 0.2


def test_damage_is_counted_in_the_worst_column() -> None:
    original = torch.tensor([[0.5, 1.0, 0.0, 1.0, 0.0], [0.5, 1.0, 0.0, 0.0, 1.0]])
    mapped = torch.tensor([[0.5, 1.0, 0.0, 0.0, 1.0], [0.1, 1.0, 0.0, 0.0, 1.0]])
    found = damage(original, mapped, ((1, 3), (3, 5)))
    assert found["damage_categories"] == 0.25 and found["damage_worst_category"] == 0.5
    assert found["damage_numbers_50"] == pytest.approx((0 + 0.4 / 0.3) / 2)


def test_quantiles_are_those_of_the_groups() -> None:
    x = torch.cat([torch.linspace(0, 0.5, 101), torch.linspace(0.5, 1, 101)]).unsqueeze(1)
    curves = group_quantiles(Split(x, torch.zeros(202).long(), torch.arange(202) // 101))
    assert curves.shape == (2, 49, 1)
    assert torch.allclose(curves[0, [0, 24, 48], 0], torch.tensor([0.01, 0.25, 0.49]))
