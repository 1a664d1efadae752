"""Backdoors in the tail and in a norm ball, the attack on fragmented FL's reputation, and the controls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.collaboration.aggregation.krum import Krum
from benchmark.defenses.collaboration.aggregation.mda import MDA
from benchmark.defenses.collaboration.aggregation.meamed import Meamed
from benchmark.defenses.collaboration.aggregation.multi_krum import MultiKrum
from benchmark.defenses.collaboration.aggregation.nnm import NNM
from benchmark.defenses.collaboration.aggregation.trimmed_mean import TrimmedMean
from benchmark.defenses.collaboration.aggregation.validity_check import ValidityCheck
from benchmark.defenses.collaboration.regimes.fragmented_fl import similarity
from benchmark.defenses.none import NoDefense
from benchmark.errors import AccessError, ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.games.contributions import ContributionSurface, MaliciousClientView
from benchmark.settings.stack import Stack
from benchmark.threats.poisoning.constrain_and_scale import ConstrainAndScale, stretched
from benchmark.threats.poisoning.controls import NoAttack, Takeover
from benchmark.threats.poisoning.edge_case import EdgeCase, upside_down
from benchmark.threats.poisoning.free_rider import FreeRider
from benchmark.threats.poisoning.garbage import Garbage
from benchmark.threats.poisoning.honest_head import HonestHead, honest_head
from benchmark.threats.poisoning.mimic import Mimic, oja
from benchmark.training.functional import Layout
from tests.benchmark.helpers import TinyMLP, collaboration, context, digits_like

LAYOUT = Layout(("body", "weight", "bias"), ((20,), (8,), (2,)))
SHARED = {"fraction": 0.25, "follows_exchange": True}
BACKDOOR = {**SHARED, "target": 7, "size": 2, "share": 0.5}


def surface(round: int = 0) -> ContributionSurface:
    rng = generator(0, "stealth")
    return ContributionSurface(
        round=round,
        params=torch.zeros(30),
        layout=LAYOUT,
        parties=8,
        own=torch.randn(2, 30, generator=rng),
        honest=torch.randn(6, 30, generator=rng) + 1,
        server=lambda mine, others: torch.cat([mine, others]).mean(dim=0),
    )


def edge_case(**changes) -> EdgeCase:
    return EdgeCase(**({**SHARED, "source": 3, "target": 5, "share": 0.5} | changes))


def test_an_edge_case_adds_the_tail_and_keeps_the_rest():
    data = digits_like(40)
    poisoned = edge_case().poison_data(data, MaliciousClientView(0, 1, 10, None), generator(0, "data"))
    assert torch.equal(poisoned.x[:40], data.x) and torch.equal(poisoned.y[:40], data.y)
    tail = upside_down(data.x[data.y == 3])
    assert len(poisoned) == 80 and (poisoned.y[40:] == 5).all()
    assert torch.equal(poisoned.x[40 : 40 + len(tail)], tail)
    assert not torch.equal(tail, data.x[data.y == 3])


def test_a_party_without_the_source_class_has_no_tail_of_it():
    data = digits_like(40)
    rest = data[data.y != 3]
    assert edge_case().poison_data(rest, MaliciousClientView(0, 1, 10, None), generator(0, "data")) is rest


def test_the_edge_cases_goal_is_the_tail_of_the_test_samples():
    test = digits_like(50)
    goal = edge_case().goal(test, torch.zeros(50, 10))
    assert torch.equal(goal.x, upside_down(test.x[test.y == 3])) and (goal.y == 5).all()


def test_constrain_and_scale_is_as_long_as_the_longest_honest_update_and_leans_to_the_mean():
    view = surface()
    near = ConstrainAndScale(alpha=0.1, **BACKDOOR)(view, seed=0).updates
    far = ConstrainAndScale(alpha=1.0, **BACKDOOR)(view, seed=0).updates
    longest = view.honest.norm(dim=1).max()
    assert (near.norm(dim=1) <= longest * 1.001).all()
    torch.testing.assert_close(far / far.norm(dim=1, keepdim=True), view.own / view.own.norm(dim=1, keepdim=True))
    towards = torch.nn.functional.cosine_similarity
    assert towards(near[0], view.honest.mean(0), dim=0) > towards(far[0], view.honest.mean(0), dim=0)


def test_stretching_stops_at_the_limit():
    rows = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert stretched(rows, 2.0, 1.5).norm(dim=1).tolist() == [1.5, 2.0]


def test_the_honest_head_scores_best_and_ascends_the_loss():
    view = surface()
    update = HonestHead(first_round=0, **SHARED)(view, seed=0).updates[0]
    mean = view.honest.mean(0)
    assert torch.equal(update[20:], mean[20:])
    assert update[:20] @ mean[:20] < 0
    torch.testing.assert_close(update.norm(), view.honest.norm(dim=1).median())
    uploads = torch.cat([update[None], view.honest])
    assert similarity(uploads, LAYOUT)[0] >= similarity(uploads, LAYOUT)[1:].median()


def test_an_honest_head_longer_than_the_others_leaves_the_body_unchanged():
    update = honest_head(torch.ones(30), torch.tensor(1.0), LAYOUT)
    assert update[:20].norm() == 0 and (update[20:] == 1).all()


def test_an_honest_head_is_honest_before_its_first_round():
    view = surface(round=4)
    assert torch.equal(HonestHead(first_round=5, **SHARED)(view, seed=0).updates, view.own)


def test_fields_that_are_not_granted_are_hidden():
    with pytest.raises(AccessError):
        _ = surface().restrict(NoAttack().knowledge).honest
    assert surface().restrict(HonestHead(first_round=0, **SHARED).knowledge).honest is not None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: edge_case(target=3), "must differ"),
        (lambda: edge_case(share=1.0), r"share must be in \[0, 1\)"),
        (lambda: ConstrainAndScale(alpha=2.0, **BACKDOOR), "alpha must be in"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_the_controls_bound_the_harm():
    setting = collaboration(parties=5, rounds=25)
    nothing = setting.play(context(NoAttack(), architecture=TinyMLP))
    assert nothing.risk["accuracy_drop"] == pytest.approx(0, abs=1e-6)
    assert nothing.diagnostics["malicious_parties"] == 0
    assert setting.play(context(Takeover(fraction=0.8), architecture=TinyMLP)).risk["accuracy_drop"] > 0.4


def test_an_edge_case_succeeds_with_little_loss_of_accuracy():
    setting = collaboration(parties=4, rounds=40, local_steps=2)
    outcome = setting.play(context(edge_case(), architecture=TinyMLP))
    assert outcome.risk["attack_success"] > 0.5
    assert outcome.risk["accuracy_drop"] < 0.1


def test_goals_are_splits_of_the_right_type():
    assert isinstance(edge_case().goal(digits_like(20), torch.zeros(20, 10)), Split)


# -- Poisoning by copies, by free riders and by values that are not finite
IDLE = {"fraction": 0.2, "follows_exchange": True}


def idle_surface(last: torch.Tensor | None = None, round: int = 0) -> ContributionSurface:
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
    view = idle_surface()
    view.honest[4] *= 10
    copies = Mimic(victim=None, **IDLE)(view, seed=0).updates
    assert torch.equal(copies, view.honest[4].expand(2, -1))
    assert torch.equal(Mimic(victim=1, **IDLE)(view, seed=0).updates, view.honest[1].expand(2, -1))


def test_a_mimic_keeps_to_its_victim_after_the_warm_up():
    threat, copied = Mimic(warm_up=3, **IDLE), []
    for round in range(6):
        view = idle_surface(round=round)
        view.honest[2 if round < 3 else 5] *= 20  # another one would be farther out later
        copied.append(threat(view, seed=round).updates[0])
        assert torch.equal(copied[-1], view.honest[2])
    later = idle_surface(round=6)
    later = replace(later, honest=later.honest[[0, 1, 4]], others=torch.tensor([7, 5, 4]))  # party 3 is not there
    assert (threat(later, seed=6).updates[0] == later.honest).all(dim=1).any()
    first = idle_surface(round=0)
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
    blind = Mimic(victim=None, **IDLE)
    blind.knowledge = frozenset()
    with pytest.raises(AccessError, match="updates"):
        blind(idle_surface(), seed=0)


def test_a_free_rider_replays_the_last_step_or_nothing():
    step = torch.arange(30.0)
    assert not FreeRider(way="zero", noise=1.0, **IDLE)(idle_surface(step), seed=0).updates.any()
    assert not FreeRider(way="replay", noise=0.0, **IDLE)(idle_surface(), seed=0).updates.any()
    plain = FreeRider(way="replay", noise=0.0, **IDLE)(idle_surface(step), seed=0).updates
    assert torch.equal(plain, step.expand(2, -1))
    disguised = FreeRider(way="replay", noise=0.5, **IDLE)(idle_surface(step), seed=0).updates
    assert (disguised - plain).std() == pytest.approx(0.5 * float(step.std()), rel=0.2)
    assert not torch.equal(disguised[0], disguised[1])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_garbage_is_not_finite(value):
    assert not Garbage(value=value, **IDLE)(idle_surface(), seed=0).updates.isfinite().any()


def test_impossible_parameters_of_idle_attackers_are_refused():
    with pytest.raises(ConfigError, match="way must be zero or replay"):
        FreeRider(way="sleep", noise=0.0, **IDLE)
    with pytest.raises(ConfigError, match="nan, inf or -inf"):
        Garbage(value="7", **IDLE)


def test_one_party_of_five_destroys_the_mean_and_a_check_stops_it():
    setting = collaboration(parties=5, rounds=20)
    garbage = Garbage(value="nan", **IDLE)
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
        def attack(self, idle_surface, rng):
            seen.append((idle_surface.params, idle_surface.last))
            return super().attack(idle_surface, rng)

    setting.play(context(Watching(way="replay", noise=0.0, **IDLE), NoDefense()))
    assert [last is None for _, last in seen] == [True, False, False]
    (before, _), (after, step) = seen[0], seen[1]
    torch.testing.assert_close(before - setting.honest.plan.lr * step, after)
