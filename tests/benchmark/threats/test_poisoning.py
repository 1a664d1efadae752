"""Poisoning attacks: their formulas, their knowledge and their effect on a collaboration."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.collaboration.aggregation.centered_clipping import CenteredClipping
from benchmark.defenses.collaboration.aggregation.coordinate_median import CoordinateMedian
from benchmark.defenses.collaboration.aggregation.fltrust import FLTrust
from benchmark.defenses.collaboration.aggregation.krum import Krum
from benchmark.defenses.collaboration.aggregation.multi_krum import MultiKrum
from benchmark.defenses.collaboration.regimes.fragmented_fl import FragmentedFL
from benchmark.errors import AccessError, ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.games.contributions import ContributionSurface, MaliciousClientView
from benchmark.settings.stack import UniversalDefense
from benchmark.threats.poisoning.alie import ALIE, alie_z
from benchmark.threats.poisoning.badnets import BadNets
from benchmark.threats.poisoning.dba import DBA
from benchmark.threats.poisoning.ipm import IPM
from benchmark.threats.poisoning.label_flip import LabelFlip
from benchmark.threats.poisoning.label_flip_targeted import LabelFlipTargeted
from benchmark.threats.poisoning.min_max import MinMax
from benchmark.threats.poisoning.min_sum import MinSum
from benchmark.threats.poisoning.model_replacement import ModelReplacement
from benchmark.threats.poisoning.random_update import RandomUpdate
from benchmark.threats.poisoning.sign_flip import SignFlip
from benchmark.threats.poisoning.targeted_samples import TargetedSamples
from benchmark.threats.poisoning.triggers import corner, stamp, stamped_goal, trigger_part
from benchmark.training.functional import Layout
from tests.benchmark.helpers import TinyMLP, collaboration, context, digits_like

D, HONEST, OWN = 30, 8, 2
SHARED = {"fraction": 0.2, "follows_exchange": True}
OMNISCIENT = {**SHARED, "distances": [0.1, 1.0, 10.0], "adaptive": False}
BACKDOOR = {**SHARED, "target": 7, "size": 2, "share": 0.5}
REPLACEMENT = {**BACKDOOR, "gamma": None, "first_round": 0, "gammas": [1.0, 20.0], "adaptive": False}
TARGETED = {**SHARED, "source": 3, "target": 8, "pick": "top", "inputs": 5, "copies": 20, "jitter": 0.02}


def surface(server=None, round: int = 0) -> ContributionSurface:
    rng = generator(0, "poison.test")
    return ContributionSurface(
        round=round,
        params=torch.zeros(D),
        layout=Layout(("w",), ((D,),)),
        parties=HONEST + OWN,
        own=torch.randn(OWN, D, generator=rng),
        honest=torch.randn(HONEST, D, generator=rng) + 1,
        server=server or (lambda mine, others: torch.cat([mine, others]).mean(dim=0)),
    )


def malicious_view(index: int = 0, count: int = 2, goal: Split | None = None) -> MaliciousClientView:
    return MaliciousClientView(index, count, 10, goal)


# -- formulas --------------------------------------------------------------------------------------


def test_sign_flip_negates_the_own_update():
    view = surface()
    assert torch.equal(SignFlip(scale=3.0, **SHARED)(view, seed=0).updates, -3 * view.own)


def test_a_random_update_has_the_given_std_and_ignores_the_own_update():
    sizes = {"params": torch.zeros(20000), "honest": torch.zeros(3, 20000), "last": None}
    view = ContributionSurface(**{**vars_of(surface()), **sizes, "own": torch.full((2, 20000), 50.0)})
    noise = RandomUpdate(std=2.0, **SHARED)(view, seed=0).updates
    assert noise.mean().abs() < 0.1
    assert noise.std().item() == pytest.approx(2.0, rel=0.02)


def vars_of(view: ContributionSurface) -> dict:
    return {name: getattr(view, name) for name in view.visible()}


def test_alie_is_the_mean_minus_z_deviations():
    view = surface()
    update = ALIE(z=1.5, omniscient=True, **OMNISCIENT)(view, seed=0).updates
    torch.testing.assert_close(update[0], view.honest.mean(0) - 1.5 * view.honest.std(0))
    assert torch.equal(update[0], update[1])


def test_alie_without_omniscience_estimates_from_its_own():
    view = surface()
    update = ALIE(z=1.0, omniscient=False, **OMNISCIENT)(view, seed=0).updates
    torch.testing.assert_close(update[0], view.own.mean(0) - view.own.std(0))


def test_alies_z_is_the_papers():
    # Baruch et al.: n = 50, m = 24: s = 26 - 24 = 2, z = Phi^-1(24 / 26).
    assert alie_z(50, 24) == pytest.approx(NormalDist().inv_cdf(24 / 26))
    assert alie_z(10, 2) == 0.0
    assert alie_z(10, 4) == pytest.approx(NormalDist().inv_cdf(4 / 6))


def test_ipm_is_the_negative_mean():
    view = surface()
    update = IPM(epsilon=0.5, **OMNISCIENT)(view, seed=0).updates
    torch.testing.assert_close(update[0], -0.5 * view.honest.mean(0), atol=1e-6, rtol=1e-5)


def distances(u: torch.Tensor, honest: torch.Tensor) -> torch.Tensor:
    return (honest - u).norm(dim=1)


@pytest.mark.parametrize("direction", ["unit", "std", "sign"])
def test_min_max_reaches_its_constraint_exactly(direction):
    view = surface()
    update = MinMax(direction=direction, **OMNISCIENT)(view, seed=0).updates[0]
    limit = torch.cdist(view.honest, view.honest).max()
    assert distances(update, view.honest).max().item() == pytest.approx(limit.item(), rel=1e-4)


@pytest.mark.parametrize("direction", ["unit", "std", "sign"])
def test_min_sum_reaches_its_constraint_and_stays_nearer_than_min_max(direction):
    view = surface()
    update = MinSum(direction=direction, **OMNISCIENT)(view, seed=0).updates[0]
    limit = torch.cdist(view.honest, view.honest).square().sum(dim=1).max()
    assert distances(update, view.honest).square().sum().item() == pytest.approx(limit.item(), rel=1e-4)
    farther = MinMax(direction=direction, **OMNISCIENT)(view, seed=0).updates[0]
    assert (update - view.honest.mean(0)).norm() <= (farther - view.honest.mean(0)).norm()


@pytest.mark.parametrize("threat", [MinMax, MinSum])
def test_identical_honest_updates_give_strength_zero(threat):
    same = torch.ones(5, D)
    assert threat.largest(same.double(), -torch.ones(D).double()) == pytest.approx(0.0, abs=1e-6)
    assert threat.largest(same.double(), torch.zeros(D).double()) == 0.0


def test_model_replacement_puts_the_backdoored_update_in_place_of_the_mean():
    threat, view = ModelReplacement(**REPLACEMENT), surface()
    silent = torch.zeros_like(view.honest)
    mean = torch.cat([threat(view, seed=0).updates, silent]).mean(0)
    torch.testing.assert_close(mean, view.own.mean(0))


def test_model_replacement_waits_for_its_round():
    threat = ModelReplacement(**{**REPLACEMENT, "first_round": 3})
    assert torch.equal(threat(surface(round=2), seed=0).updates, surface().own)
    assert torch.equal(threat(surface(round=3), seed=0).updates, 5 * surface().own)


# -- data ------------------------------------------------------------------------------------------


def test_label_flips():
    data = digits_like(20)
    rng = generator(0, "flip")
    assert torch.equal(LabelFlip(**SHARED).poison_data(data, malicious_view(), rng).y, 9 - data.y)
    flipped = LabelFlipTargeted(source=7, target=1, **SHARED).poison_data(data, malicious_view(), rng)
    assert (flipped.y == 7).sum() == 0 and (flipped.y == 1).sum() == 4
    assert torch.equal(flipped.x, data.x) and (data.y == 7).sum() == 2


def test_a_trigger_is_white_in_its_corner_and_nowhere_else():
    mask = corner((1, 8, 8), 2)
    assert mask.nonzero().tolist() == [[6, 6], [6, 7], [7, 6], [7, 7]]
    x = torch.full((3, 2, 8, 8), 0.5)
    painted = stamp(x, mask)
    assert (painted[..., mask] == 1).all() and (painted[..., ~mask] == 0.5).all() and (x == 0.5).all()


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_parts_of_a_trigger_are_disjoint_make_the_whole_and_are_never_empty(count):
    mask = corner((1, 8, 8), 2)
    parts = torch.stack([trigger_part(mask, i, count) for i in range(count)])
    assert parts.flatten(1).any(dim=1).all()
    assert torch.equal(parts.any(dim=0), mask)
    assert parts[: min(count, 4)].sum() == 4


def test_a_backdoor_is_measured_on_other_classes_only():
    test = digits_like(50)
    goal = stamped_goal(test, corner((1, 8, 8), 2), 7)
    assert len(goal) == 45
    assert (goal.y == 7).all()
    assert (goal.x[..., 6:, 6:] == 1).all()


def test_badnets_stamps_and_relabels_its_share():
    data = digits_like(40)
    poisoned = BadNets(**BACKDOOR).poison_data(data, malicious_view(), generator(0, "badnets"))
    stamped = (poisoned.x[..., 6:, 6:] == 1).flatten(1).all(dim=1)
    assert stamped.sum() == 20
    assert (poisoned.y[stamped] == 7).all()
    assert torch.equal(poisoned.y[~stamped], data.y[~stamped])
    assert torch.equal(poisoned.x[~stamped], data.x[~stamped])


def test_dba_divides_the_trigger_and_is_measured_on_the_whole():
    threat, data = DBA(**BACKDOOR), digits_like(10)
    masks = [threat.own_trigger(data, malicious_view(i, 4)) for i in range(4)]
    assert [int(mask.sum()) for mask in masks] == [1, 1, 1, 1]
    assert torch.equal(torch.stack(masks).any(0), threat.trigger(data))
    assert (threat.goal(data, torch.zeros(10, 10)).x[..., 6:, 6:] == 1).all()


def test_targeted_samples_picks_by_confidence_and_inserts_near_copies():
    test = digits_like(100)
    clean = torch.zeros(100, 10)
    clean[:, 3] = torch.arange(100) / 10
    own = (test.y == 3).nonzero().squeeze(1)
    for pick, expected in (("top", own[-5:]), ("foot", own[:5])):
        threat = TargetedSamples(**{**TARGETED, "pick": pick})
        goal = threat.goal(test, clean)
        assert {tuple(x.flatten().tolist()) for x in goal.x} == {tuple(x.flatten().tolist()) for x in test.x[expected]}
        assert (goal.y == 8).all()
    poisoned = threat.poison_data(digits_like(40), malicious_view(goal=goal), generator(0, "targets"))
    assert len(poisoned) == 60
    assert (poisoned.y[40:] == 8).all()
    assert (poisoned.x[40:45] - goal.x).abs().mean() < 0.03
    assert poisoned.x.min() >= 0 and poisoned.x.max() <= 1


def test_targeted_samples_are_classified_rightly_without_an_attack():
    test = digits_like(100)
    clean = torch.zeros(100, 10)
    clean[:, 3] = torch.arange(100) / 10
    own = (test.y == 3).nonzero().squeeze(1)
    clean[own[-1], 5] = 100.0  # the largest logit of class 3, and yet wrong
    goal = TargetedSamples(**TARGETED).goal(test, clean)
    assert torch.equal(goal.x.sort(0).values, test.x[own[-6:-1]].sort(0).values)
    assert len(TargetedSamples(**{**TARGETED, "inputs": 50}).goal(test, clean)) == int(
        (clean[own].argmax(dim=1) == 3).sum()
    )


# -- access ----------------------------------------------------------------------------------------


def test_only_the_omniscient_see_others_and_only_the_adaptive_rehearse():
    plain, knowing = SignFlip(scale=1.0, **SHARED), MinMax(direction="std", **OMNISCIENT)
    adaptive = MinMax(direction="std", **{**OMNISCIENT, "adaptive": True})
    with pytest.raises(AccessError, match="'updates'"):
        _ = surface().restrict(plain.knowledge).honest
    with pytest.raises(AccessError, match="'mechanism'"):
        _ = surface().restrict(knowing.knowledge).server
    assert callable(surface().restrict(adaptive.knowledge).server)
    with pytest.raises(AccessError, match="'targets'"):
        _ = malicious_view(goal=digits_like(5)).restrict(plain.knowledge).goal


def test_the_adaptive_form_is_never_nearer_to_the_honest_mean_after_aggregation():
    def median(mine, others):
        return torch.cat([mine, others]).median(dim=0).values

    view = surface(server=median)
    for threat, extra in (
        (MinMax, {"direction": "std"}),
        (IPM, {"epsilon": 0.1}),
        (ALIE, {"z": 0.3, "omniscient": True}),
    ):
        reached = []
        for adaptive in (False, True):
            update = threat(**{**OMNISCIENT, "adaptive": adaptive}, **extra)(view, seed=0).updates
            reached.append((median(update, view.honest) - view.honest.mean(0)).norm())
        assert reached[1] >= reached[0]
    assert reached[1] > reached[0]


def test_adaptive_replacement_takes_the_scale_that_the_server_turns_into_its_own_update():
    def halved(mine, others):
        return mine.mean(dim=0) / 20

    guess = ModelReplacement(**{**REPLACEMENT, "adaptive": True})(surface(server=halved), seed=0)
    assert guess.diagnostics["gamma"] == 20.0


def test_a_rehearsal_does_not_change_the_run():
    setting = collaboration(parties=5, rounds=4)
    adaptive = MinMax(direction="std", **{**OMNISCIENT, "fraction": 0.4, "adaptive": True, "distances": []})
    plain = MinMax(direction="std", **{**OMNISCIENT, "fraction": 0.4})
    for defense in (
        lambda: CenteredClipping(radius=1.0, iterations=1),
        lambda: FragmentedFL(p_mix=0.5, warm_up=1, reputation=True, wire="counted", dropout=0.0),
    ):
        # With nothing to choose from the adaptive form does what the plain one does, apart from rehearsing.
        curves = [setting.play(context(threat, defense(), architecture=TinyMLP)).curves for threat in (plain, adaptive)]
        assert curves[0] == curves[1]


# -- what they do ----------------------------------------------------------------------------------


def test_a_backdoor_works_without_a_defense_and_not_against_multi_krum():
    setting = collaboration(parties=10, rounds=30)
    threat = BadNets(**{**BACKDOOR, "size": 4})
    bare, defended = (
        setting.play(context(threat, defense, architecture=TinyMLP))
        for defense in (UniversalDefense(), MultiKrum(f_assumed=3))
    )
    assert bare.risk["attack_success"] > 0.7
    assert bare.diagnostics["attack_success_without_attack"] < 0.2
    assert bare.utility["attacked_accuracy"] > 0.8
    assert defended.risk["attack_success"] < bare.risk["attack_success"] / 2


@pytest.mark.ci
def test_large_updates_ruin_the_mean_and_not_the_median_krum_or_fltrust():
    setting = collaboration(parties=10, rounds=20)
    threat = SignFlip(scale=8.0, **SHARED)
    drops = {
        type(defense).__name__: setting.play(context(threat, defense, architecture=TinyMLP)).risk["accuracy_drop"]
        for defense in (UniversalDefense(), CoordinateMedian(), Krum(f_assumed=3), FLTrust())
    }
    assert drops.pop("UniversalDefense") > 0.4
    assert max(drops.values()) < 0.15


def test_untargeted_threats_have_no_attack_success():
    outcome = collaboration().play(context(LabelFlip(**SHARED)))
    assert "attack_success" not in outcome.risk


def test_those_who_do_not_follow_the_exchange_upload_unmixed_even_honest_looking_updates():
    seen = {}

    class Spy(FragmentedFL):
        def exchange(self, updates, round):
            seen["handed out"] = updates
            return super().exchange(updates, round)

        def aggregate(self, uploads, round):
            seen["uploads"] = uploads
            return uploads.mean(dim=0)

    for follows in (True, False):
        threat = LabelFlip(fraction=0.5, follows_exchange=follows)
        collaboration(rounds=1).play(
            context(
                threat, Spy(p_mix=0.5, warm_up=5, reputation=False, wire="counted", dropout=0.0), architecture=TinyMLP
            )
        )
        own = (seen["uploads"] == seen["handed out"]).all(dim=1)
        assert own.sum() == (0 if follows else 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LabelFlipTargeted(source=1, target=1, **SHARED), "must differ, both are 1"),
        (lambda: BadNets(**{**BACKDOOR, "share": 1.5}), r"threat.share must be in \[0, 1\]"),
        (lambda: corner((1, 8, 8), 9), "between 1 and 8"),
        (lambda: TargetedSamples(**{**TARGETED, "pick": "best"}), "one of top, foot"),
        (lambda: TargetedSamples(**{**TARGETED, "target": 3}), "must differ, both are 3"),
        (lambda: MinMax(direction="up", **OMNISCIENT), "one of unit, std, sign"),
        (lambda: ALIE(z=1.0, omniscient=False, **{**OMNISCIENT, "adaptive": True}), "needs threat.omniscient=true"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
