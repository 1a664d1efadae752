import math

import numpy as np
import pytest
import torch

from benchmark.defenses.collaboration.clients.selective_sharing import SelectiveSharing
from benchmark.defenses.collaboration.clients.svt_dp import SVTDP, above_thresholds
from benchmark.defenses.collaboration.clients.user_level_dp import UserLevelDP
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.collaboration.partition import partition_by_class
from benchmark.settings.collaboration.rounds import federate
from benchmark.settings.defense import Defense
from benchmark.settings.stack import UniversalDefense
from benchmark.training.functional import Layout, Net
from tests.benchmark.helpers import PLAN, TinyNet, digits_like

SIZE = 101


def selective(**rule) -> SelectiveSharing:
    """Return the defense, with everything downloaded unless told otherwise."""
    defense = SelectiveSharing(**({"download_share": 1.0} | rule))
    defense.start(2, Layout(("w",), ((SIZE,),)))
    return defense


def turn(parties: int = 2, seed: int = 0) -> Round:
    layout = Layout(("w",), ((SIZE,),))
    return Round(0, layout, torch.zeros(SIZE), torch.arange(parties), generator(seed, "protocol"))


def updates(parties: int = 2) -> torch.Tensor:
    return torch.randn((parties, SIZE), generator=generator(0, "updates"))


def train(defense: Defense) -> torch.Tensor:
    torch.manual_seed(1)
    shares = partition_by_class(digits_like(100), 2, 10)
    net = Net(TinyNet())
    return federate(net, shares, defense, plan=PLAN, rounds=4, fraction=1.0, seed=0, order="roundrobin").params


# -- selective sharing ----------------------------------------------------------------------------------
def test_sharing_everything_equals_no_defense_bit_for_bit():
    assert torch.equal(train(selective(share=1.0, choice="largest", clip=None)), train(UniversalDefense()))


@pytest.mark.parametrize("choice", ["largest", "random"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_exactly_the_share_is_sent_and_the_rest_is_zero(choice, share):
    mine, round = updates(), turn()
    sent = selective(share=share, choice=choice, clip=None).protect(mine, round)
    assert (sent != 0).sum(dim=1).tolist() == [math.ceil(share * SIZE)] * 2
    assert torch.equal(sent[sent != 0], mine[sent != 0])
    assert torch.equal(round.published.mask, sent != 0)


def test_largest_keeps_the_largest_magnitudes():
    mine = updates()
    sent = selective(share=0.1, choice="largest", clip=None).protect(mine, turn())
    kept = sent != 0
    for row, which in zip(mine.abs(), kept, strict=True):
        assert row[which].min() >= row[~which].max()


def test_clipping_bounds_every_coordinate():
    sent = selective(share=1.0, choice="largest", clip=0.1).protect(updates(), turn())
    assert sent.abs().max() == pytest.approx(0.1)


def test_only_a_share_is_downloaded_and_the_rest_stays_as_it_was_left():
    defense, round = selective(share=1.0, download_share=0.25, choice="largest", clip=None), turn()
    params, local = torch.ones(SIZE), torch.zeros(2, SIZE)
    held = defense.download(params, local, round)
    assert held.sum(dim=1).tolist() == [26.0, 26.0]
    assert torch.equal(round.published.downloaded, held == 1)
    assert round.bytes_sent < 0
    assert selective(share=1.0, choice="largest", clip=None).download(params, local, turn()) is None


def test_what_changed_most_often_of_late_is_downloaded_first():
    defense = selective(share=0.1, download_share=0.1, choice="largest", clip=None)
    old, new = torch.zeros(2, SIZE), torch.zeros(2, SIZE)
    old[:, :11], new[:, 50:61] = 1.0, 1.0
    for mine in (old, new):
        defense.protect(mine, turn())
    held = defense.download(torch.ones(SIZE), torch.zeros(2, SIZE), turn())
    assert held[:, 50:61].all() and held.sum() == 22


def test_a_collaboration_with_a_small_download_still_trains():
    assert not torch.equal(
        train(selective(share=1.0, download_share=0.5, choice="largest", clip=None)), train(UniversalDefense())
    )


def test_a_small_share_saves_traffic_and_a_large_one_costs_none():
    for share, expected in ((0.1, -2 * (SIZE * 4 - 11 * 8)), (0.9, 0)):
        round = turn()
        selective(share=share, choice="largest", clip=None).protect(updates(), round)
        assert round.bytes_sent == expected


# -- sparse vector technique ----------------------------------------------------------------------------
def svt(**changes) -> SVTDP:
    return SVTDP(**(dict(share=0.1, epsilon_per_parameter=1.0, clip=0.5, threshold=0.0) | changes))


def started(defense, parties: int = 2):
    defense.start(parties, turn().layout)
    return defense


def test_without_noise_and_threshold_svt_sends_clipped_random_coordinates():
    mine = updates()
    sent = started(svt(epsilon_per_parameter=1e12)).protect(mine, turn())
    kept = sent.abs() > 1e-9
    assert kept.sum(dim=1).tolist() == [11, 11]
    torch.testing.assert_close(sent[kept], mine.clamp(-0.5, 0.5)[kept])
    other = started(svt(epsilon_per_parameter=1e12)).protect(mine, turn(seed=1))
    assert not torch.equal(kept, other.abs() > 1e-9)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 100.0])
def test_svt_never_sends_more_than_its_limit_or_beyond_its_clip(epsilon):
    sent = started(svt(epsilon_per_parameter=epsilon)).protect(updates(), turn())
    assert (sent != 0).sum(dim=1).max() <= 11
    assert sent.abs().max() <= 0.5


def test_a_high_threshold_without_noise_lets_only_larger_coordinates_through():
    mine = updates()
    sent = started(svt(share=1.0, epsilon_per_parameter=1e12, threshold=0.3)).protect(mine, turn())
    assert torch.equal(sent != 0, mine.abs() >= 0.3)


def test_crossings_equal_the_plain_loop():
    rng = np.random.default_rng(0)
    heights, bars = rng.normal(size=2000), rng.normal(1.5, 0.5, size=150)
    expected, bar = [], 0
    for position, height in enumerate(heights):
        if bar < len(bars) and height >= bars[bar]:
            expected.append(position)
            bar += 1
    assert above_thresholds(heights, bars).tolist() == expected


def test_svt_charges_ten_ninths_of_the_budget_for_each_upload():
    defense = started(svt(epsilon_per_parameter=2.0))
    spent = []
    for _ in range(3):
        defense.protect(updates(), turn())
        spent.append(defense.epsilon(samples=50, batch_size=10, steps=1))
    one = 10 / 9 * 11 * 2.0
    assert [epsilon for epsilon, _ in spent] == pytest.approx([one, 2 * one, 3 * one])
    assert {delta for _, delta in spent} == {0.0}
    assert started(defense).epsilon(samples=50, batch_size=10, steps=1)[0] == 0


# -- user level -----------------------------------------------------------------------------------------
def test_user_level_dp_clips_uploads_and_noises_their_mean():
    defense = started(UserLevelDP(max_norm=1.0, noise_multiplier=2.0, delta=1e-5))
    clipped = defense.protect(updates(), turn())
    assert clipped.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])
    flat = torch.zeros((4, 20_000))
    assert defense.aggregate(flat, turn()).std().item() == pytest.approx(2.0 / 4, rel=0.05)


def test_user_level_epsilon_rises_with_rounds_and_falls_with_noise():
    def spent(rounds: int, noise: float) -> float:
        defense = started(UserLevelDP(max_norm=1.0, noise_multiplier=noise, delta=1e-5))
        for _ in range(rounds):
            defense.protect(updates(), turn())
        return defense.epsilon(samples=50, batch_size=10, steps=1)[0]

    assert spent(0, 1.0) == 0
    assert 0 < spent(1, 4.0) < spent(1, 1.0) < spent(5, 1.0) < math.inf
    assert spent(1, 0.0) == math.inf
    # Gaussian mechanism, one release at noise 4: the RDP bound alpha / (2 * 16) converted with delta = 1e-5.
    assert spent(1, 4.0) == pytest.approx(1.1, abs=0.25)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: selective(share=0, choice="largest", clip=None), r"share must be in \(0, 1\]"),
        (lambda: selective(share=1.0, choice="best", clip=None), "largest or random"),
        (lambda: selective(share=1.0, choice="largest", clip=0), "clip must be above 0"),
        (lambda: svt(threshold=-1), "threshold must be at least 0"),
        (lambda: svt(epsilon_per_parameter=0), "epsilon_per_parameter must be above 0"),
        (lambda: UserLevelDP(max_norm=1.0, noise_multiplier=-1, delta=1e-5), "noise_multiplier must be at least 0"),
    ],
)
def test_impossible_parameters_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
