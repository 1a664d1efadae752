"""Poisoning by copies, by free riders and by values that are not finite."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.defenses.collaboration.aggregation.krum import Krum
from benchmark.defenses.collaboration.aggregation.mda import MDA
from benchmark.defenses.collaboration.aggregation.meamed import Meamed
from benchmark.defenses.collaboration.aggregation.multi_krum import MultiKrum
from benchmark.defenses.collaboration.aggregation.nnm import NNM
from benchmark.defenses.collaboration.aggregation.trimmed_mean import TrimmedMean
from benchmark.defenses.collaboration.aggregation.validity_check import ValidityCheck
from benchmark.defenses.none import NoDefense
from benchmark.errors import AccessError, ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.games.contributions import ContributionSurface
from benchmark.settings.stack import Stack
from benchmark.threats.poisoning.controls import NoAttack
from benchmark.threats.poisoning.free_rider import FreeRider
from benchmark.threats.poisoning.garbage import Garbage
from benchmark.threats.poisoning.mimic import Mimic, oja
from benchmark.training.functional import Layout
from tests.benchmark.helpers import collaboration, context

SHARED = {"fraction": 0.2, "follows_exchange": True}


def surface(last: torch.Tensor | None = None, round: int = 0) -> ContributionSurface:
    rng = generator(0, "idle")
    return ContributionSurface(
        round=round,
        params=torch.zeros(30),
        layout=Layout(("w",), ((30,),)),
        parties=8,
        own=torch.randn(2, 30, generator=rng),
        honest=torch.randn(6, 30, generator=rng),
        server=lambda mine, others: torch.cat([mine, others]).mean(dim=0),
        last=last,
        others=torch.tensor([0, 1, 3, 4, 5, 7]),
    )


def test_a_mimic_copies_the_party_farthest_out():
    view = surface()
    view.honest[4] *= 10
    copies = Mimic(victim=None, **SHARED)(view, seed=0).updates
    assert torch.equal(copies, view.honest[4].expand(2, -1))
    assert torch.equal(Mimic(victim=1, **SHARED)(view, seed=0).updates, view.honest[1].expand(2, -1))


def test_a_mimic_keeps_to_its_victim_after_the_warm_up():
    threat, copied = Mimic(warm_up=3, **SHARED), []
    for round in range(6):
        view = surface(round=round)
        view.honest[2 if round < 3 else 5] *= 20  # another one would be farther out later
        copied.append(threat(view, seed=round).updates[0])
        assert torch.equal(copied[-1], view.honest[2])
    later = surface(round=6)
    later = replace(later, honest=later.honest[[0, 1, 4]], others=torch.tensor([7, 5, 4]))  # party 3 is not there
    assert (threat(later, seed=6).updates[0] == later.honest).all(dim=1).any()
    first = surface(round=0)
    first.honest[1] *= 20
    assert torch.equal(threat(first, seed=0).updates[0], first.honest[1])  # a new collaboration


def test_ojas_rule_finds_the_direction_of_greatest_spread():
    rng = generator(0, "spread")
    axis = torch.nn.functional.normalize(torch.randn(12, generator=rng), dim=0)
    mean, direction = torch.zeros(12), torch.nn.functional.normalize(torch.randn(12, generator=rng), dim=0)
    for step in range(30):
        updates = torch.randn(20, 12, generator=rng) + 5 * torch.randn(20, 1, generator=rng) * axis + 3
        mean, direction = oja(updates, mean, direction, step)
    assert abs(float(direction @ axis)) > 0.98
    torch.testing.assert_close(mean, torch.full((12,), 3.0), atol=0.6, rtol=0)


def test_a_mimic_must_be_granted_the_others_updates():
    blind = Mimic(victim=None, **SHARED)
    blind.knowledge = frozenset()
    with pytest.raises(AccessError, match="updates"):
        blind(surface(), seed=0)


def test_a_free_rider_replays_the_last_step_or_nothing():
    step = torch.arange(30.0)
    assert not FreeRider(way="zero", noise=1.0, **SHARED)(surface(step), seed=0).updates.any()
    assert not FreeRider(way="replay", noise=0.0, **SHARED)(surface(), seed=0).updates.any()
    plain = FreeRider(way="replay", noise=0.0, **SHARED)(surface(step), seed=0).updates
    assert torch.equal(plain, step.expand(2, -1))
    disguised = FreeRider(way="replay", noise=0.5, **SHARED)(surface(step), seed=0).updates
    assert (disguised - plain).std() == pytest.approx(0.5 * float(step.std()), rel=0.2)
    assert not torch.equal(disguised[0], disguised[1])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_garbage_is_not_finite(value):
    assert not Garbage(value=value, **SHARED)(surface(), seed=0).updates.isfinite().any()


def test_impossible_parameters_are_refused():
    with pytest.raises(ConfigError, match="way must be zero or replay"):
        FreeRider(way="sleep", noise=0.0, **SHARED)
    with pytest.raises(ConfigError, match="nan, inf or -inf"):
        Garbage(value="7", **SHARED)


def test_one_party_of_five_destroys_the_mean_and_a_check_stops_it():
    setting = collaboration(parties=5, rounds=20)
    garbage = Garbage(value="nan", **SHARED)
    unguarded, guarded = (setting.play(context(garbage, defense)) for defense in (NoDefense(), ValidityCheck()))
    assert unguarded.risk["accuracy_drop"] > 0.3
    assert abs(guarded.risk["accuracy_drop"]) < 0.1
    assert guarded.diagnostics["malicious_share_of_uploads"] == 0


@pytest.mark.parametrize("rule", [Krum, MultiKrum, TrimmedMean, MDA, Meamed, NNM])
def test_a_check_and_a_rule_at_their_defaults_withstand_garbage(rule):
    """Two of ten uploads are dropped; the rule assumes one more malicious upload among the eight that are left."""
    setting = collaboration(parties=10, rounds=2)
    outcome = setting.play(context(Garbage(), Stack([ValidityCheck(), rule()])))
    assert abs(outcome.risk["accuracy_drop"]) < 0.3


def test_without_an_attack_nothing_is_lost_not_even_by_rounding():
    outcome = collaboration(parties=5, rounds=3).play(context(NoAttack(), NoDefense()))
    assert outcome.risk["accuracy_drop"] == 0
    hits = round(outcome.utility["test_accuracy"] * 100)
    assert outcome.utility["test_accuracy"] == hits / 100, "a share of 100 test samples, in double precision"


def test_a_free_rider_is_given_the_last_global_step():
    setting = collaboration(parties=5, rounds=3)
    seen = []

    class Watching(FreeRider):
        def attack(self, surface, rng):
            seen.append((surface.params, surface.last))
            return super().attack(surface, rng)

    setting.play(context(Watching(way="replay", noise=0.0, **SHARED), NoDefense()))
    assert [last is None for _, last in seen] == [True, False, False]
    (before, _), (after, step) = seen[0], seen[1]
    torch.testing.assert_close(before - setting.honest.plan.lr * step, after)
