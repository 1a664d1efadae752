import pytest
import torch

from benchmark.crypto import fragments
from benchmark.defenses.collaboration.regimes.fragmented_fl import FragmentedFL, from_fixed, similarity, to_fixed
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.collaboration.rounds import receive
from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
from benchmark.threats.poisoning.gaussian import GaussianPoison
from benchmark.training.functional import Layout
from tests.benchmark.helpers import TinyMLP, collaboration, context

LAYOUT = Layout(("w", "b"), ((10, 4), (10,)))


def fragmented(**changes) -> FragmentedFL:
    return FragmentedFL(**(dict(p_mix=0.5, warm_up=2, reputation=True, wire="counted", dropout=0.0) | changes))


def started(n: int, index: int = 0, **changes) -> tuple[FragmentedFL, Round]:
    defense = fragmented(**changes)
    defense.start(n, LAYOUT)
    return defense, Round(index, LAYOUT, torch.zeros(50), torch.arange(n), generator(0, "round"))


def test_mixing_keeps_every_pairs_sum_and_every_coordinate():
    defense, turn = started(6)
    updates = from_fixed(to_fixed(torch.randn(6, 50)), torch.zeros(0))
    mixed = defense.exchange(updates, turn)
    partner = defense.partner
    assert (partner >= 0).all()
    for k in range(6):
        j = partner[k]
        torch.testing.assert_close(mixed[k] + mixed[j], updates[k] + updates[j], atol=1e-6, rtol=0)
        assert ((mixed[k] == updates[k]) | (mixed[k] == updates[j])).all()
        assert 0.2 < (mixed[k] == updates[j]).float().mean() < 0.8
        assert turn.published.groups[k] == turn.published.groups[j]


def test_a_party_left_over_contributes_nothing():
    defense, turn = started(5)
    defense.exchange(torch.randn(5, 50), turn)
    assert turn.active.sum() == 4


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("n", [4, 7])
def test_the_counted_wire_is_the_real_one_in_all_but_the_masks(n, dropout):
    updates = torch.randn(n, 50)
    seen = {}
    for wire in ("counted", "encrypted"):
        defense, turn = started(n, wire=wire, dropout=dropout)
        mixed = defense.exchange(updates, turn)
        seen[wire] = (turn.messages, turn.bytes_sent, turn.active.tolist(), turn.published.groups.tolist())
        for k in turn.active.nonzero().flatten().tolist():
            both = from_fixed(to_fixed(updates[[k, int(defense.partner[k])]]), updates)
            assert ((mixed[k] == both[0]) | (mixed[k] == both[1])).all()
    assert seen["counted"] == seen["encrypted"]


def test_given_the_mask_the_real_wire_gives_the_same_numbers(monkeypatch):
    mask = torch.rand(50) < 0.5
    monkeypatch.setattr(fragments, "mask_of", lambda seed, size, p_mix: mask.numpy())
    updates = torch.randn(2, 50)
    defense, turn = started(2, wire="encrypted")
    fixed = from_fixed(to_fixed(updates), updates)
    assert torch.equal(defense.exchange(updates, turn), torch.where(mask, fixed.flip(0), fixed))


def test_who_vanishes_stalls_nobody():
    for wire in ("counted", "encrypted"):
        defense, turn = started(10, wire=wire, dropout=0.3)
        direction = receive(defense, torch.ones(10, 50), turn)
        assert 0 < turn.active.sum() < 10
        torch.testing.assert_close(direction, torch.ones(50))


def test_sums_are_exact_in_fixed_point_and_garbage_becomes_finite():
    updates = torch.randn(6, 50) * 1e3
    defense, turn = started(6)
    mixed = defense.exchange(updates, turn)
    assert torch.equal(to_fixed(mixed).sum(0), to_fixed(updates).sum(0))
    assert torch.equal(from_fixed(to_fixed(mixed), mixed), mixed)
    garbage = torch.tensor([[float("nan"), float("inf"), -float("inf"), 1e38]])
    assert torch.isfinite(from_fixed(to_fixed(garbage), garbage)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_mix": 1.5}, "p_mix must be in"),
        ({"wire": "none"}, "wire must be counted or encrypted"),
        ({"dropout": 1.0}, "dropout must"),
    ],
)
def test_impossible_parameters_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        fragmented(**changes)


def test_a_mixed_upload_credits_the_party_that_sent_it():
    defense, turn = started(4)
    uploads = torch.ones(4, 50) + 0.1 * torch.randn(4, 50)
    defense.exchange(uploads, turn)
    defense.aggregate(uploads, turn)
    credit = similarity(uploads, LAYOUT)
    torch.testing.assert_close(defense.trust(), credit)
    for k in range(4):
        assert defense.local_reputation[k, defense.partner[k]] == credit[k]


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
    bare = setting.play(context(threat, architecture=TinyMLP))
    defended = setting.play(context(threat, fragmented(warm_up=15), architecture=TinyMLP))
    assert abs(defended.utility["test_accuracy"] - bare.utility["test_accuracy"]) <= 0.03
    assert bare.risk["accuracy_drop"] > 0.1
    assert defended.risk["accuracy_drop"] < bare.risk["accuracy_drop"] / 2


@pytest.mark.ci
def test_mixed_uploads_do_not_invert_but_the_sum_of_the_pair_does():
    """Check that mixing takes at least 10 dB of PSNR, and that the adaptive attack gets most of it back."""
    setting = collaboration(victims=4)
    attack = dict(iterations=150, step=0.1, total_variation=1e-4, restarts=1, observations=1)
    plain = setting.play(context(InvertingGradients(**attack, adaptive=False))).risk["psnr_db"]
    mixed = setting.play(context(InvertingGradients(**attack, adaptive=False), fragmented())).risk["psnr_db"]
    paired = setting.play(context(InvertingGradients(**attack, adaptive=True), fragmented())).risk["psnr_db"]
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
