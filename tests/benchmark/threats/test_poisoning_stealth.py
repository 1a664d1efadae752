"""Backdoors in the tail and in a norm ball, the attack on fragmented FL's reputation, and the controls."""

from __future__ import annotations

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.collaboration.regimes.fragmented_fl import similarity
from benchmark.errors import AccessError, ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.games.contributions import ContributionSurface, MaliciousClientView
from benchmark.threats.poisoning.constrain_and_scale import ConstrainAndScale, stretched
from benchmark.threats.poisoning.controls import NoAttack, Takeover
from benchmark.threats.poisoning.edge_case import EdgeCase, upside_down
from benchmark.threats.poisoning.honest_head import HonestHead, honest_head
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
