import pytest
import torch

from benchmark.defenses.base import Round
from benchmark.defenses.fragmented_fl import FragmentedFL, similarity
from benchmark.seeds import generator
from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
from benchmark.threats.poisoning.gaussian import GaussianPoison
from benchmark.training.functional import Layout
from tests.benchmark.helpers import TinyMLP, collaboration, stage

LAYOUT = Layout(("w", "b"), ((10, 4), (10,)))


def fragmented(**changes) -> FragmentedFL:
    return FragmentedFL(**(dict(p_mix=0.5, warm_up=2, reputation=True) | changes))


def started(n: int, index: int = 0, **changes) -> tuple[FragmentedFL, Round]:
    defense = fragmented(**changes)
    defense.start(n, LAYOUT)
    return defense, Round(index, LAYOUT, torch.zeros(50), torch.arange(n), generator(0, "round"))


def test_mixing_keeps_every_pairs_sum_and_every_coordinate():
    defense, turn = started(6)
    updates = torch.randn(6, 50)
    mixed = defense.exchange(updates, turn)
    partner = defense.partner
    assert (partner >= 0).all()
    for k in range(6):
        j = partner[k]
        assert torch.equal(mixed[k] + mixed[j], updates[k] + updates[j])
        assert ((mixed[k] == updates[k]) | (mixed[k] == updates[j])).all()
        assert 0.2 < (mixed[k] == updates[j]).float().mean() < 0.8
        assert turn.published.groups[k] == turn.published.groups[j]


def test_a_party_left_over_contributes_nothing():
    defense, turn = started(5)
    defense.exchange(torch.randn(5, 50), turn)
    assert turn.active.sum() == 4


def test_traffic_of_the_exchange_is_counted():
    defense, turn = started(4)
    defense.exchange(torch.randn(4, 50), turn)
    assert turn.messages == 12
    assert turn.bytes_sent == 4 * (2 * 50 * 4 + 32)


def test_an_outlier_scores_below_the_others():
    torch.manual_seed(0)
    uploads = torch.ones(8, 50) + 0.1 * torch.randn(8, 50)
    uploads[3] = 20 * torch.randn(50)
    assert similarity(uploads, LAYOUT).argmin() == 3


def test_reputation_of_an_outlier_falls_and_its_weight_vanishes():
    defense, _ = started(8)
    torch.manual_seed(0)
    for index in range(12):
        turn = Round(index, LAYOUT, torch.zeros(50), torch.arange(8), generator(index, "round"))
        turn.parties = defense.select(turn.parties, turn)
        turn.active = torch.ones(len(turn.parties), dtype=torch.bool)
        updates = torch.ones(len(turn.parties), 50) + 0.1 * torch.randn(len(turn.parties), 50)
        updates[turn.parties == 3] = 20 * torch.randn(50)
        uploads = defense.exchange(updates, turn)
        direction = defense.aggregate(uploads[turn.active], turn)
    assert defense.global_reputation.argmin() == 3
    assert (direction - 1).abs().max() < 0.5


def test_without_attack_it_costs_no_accuracy_and_under_gaussian_poison_it_holds():
    setting = collaboration(parties=10, rounds=40, local_steps=2)
    threat = GaussianPoison(std=20.0, fraction=0.2, follows_exchange=True)
    bare = setting.play(stage(threat, architecture=TinyMLP))
    defended = setting.play(stage(threat, fragmented(warm_up=15), architecture=TinyMLP))
    assert abs(defended.utility["test_accuracy"] - bare.utility["test_accuracy"]) <= 0.03
    assert bare.risk["accuracy_drop"] > 0.1
    assert defended.risk["accuracy_drop"] < bare.risk["accuracy_drop"] / 2


def test_mixed_uploads_do_not_invert_but_the_sum_of_the_pair_does():
    """Spec 09, section 6: PSNR plain - mixed >= 10 dB, and the adaptive attack gets most of it back."""
    setting = collaboration(victims=4)
    attack = dict(iterations=300, step=0.1, total_variation=1e-4, restarts=2, observations=1)
    plain = setting.play(stage(InvertingGradients(**attack, adaptive=False))).risk["psnr_db"]
    mixed = setting.play(stage(InvertingGradients(**attack, adaptive=False), fragmented())).risk["psnr_db"]
    paired = setting.play(stage(InvertingGradients(**attack, adaptive=True), fragmented())).risk["psnr_db"]
    assert plain - mixed >= 10
    assert paired - mixed >= 10


@pytest.mark.parametrize("reputation", [True, False])
def test_mixing_alone_does_not_change_the_mean(reputation):
    defense, turn = started(4, reputation=reputation)
    updates = torch.randn(4, 50)
    mixed = defense.exchange(updates, turn)
    torch.testing.assert_close(mixed.mean(0), updates.mean(0))
    if not reputation:
        torch.testing.assert_close(defense.aggregate(mixed, turn), updates.mean(0))
