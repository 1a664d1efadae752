from functools import cache, partial

import pytest
import torch

from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.defenses.collaboration.clients.broadcast_guard import parallel_share
from benchmark.defenses.collaboration.clients.noise_tolerance import NoiseTolerance
from benchmark.defenses.collaboration.clients.secure_aggregation import SecureAggregation
from benchmark.errors import ConfigError
from benchmark.settings.collaboration.games.broadcast import Answer, BroadcastSurface, DownlinkSurface
from benchmark.settings.collaboration.published import Published
from benchmark.threats.gradient_leakage.curious_abandon_honesty import CuriousAbandonHonesty
from benchmark.threats.gradient_leakage.denoise import without_noise
from benchmark.threats.gradient_leakage.fishing import Fishing
from benchmark.threats.gradient_leakage.robbing_the_fed import RobbingTheFed, bin_edges, expected_share
from benchmark.threats.gradient_leakage.voiding import sum_of
from benchmark.training.functional import Net
from tests.benchmark.helpers import TinyMLP, collaboration, context

PIXELS = 64


def robbing(**changes) -> RobbingTheFed:
    rule = dict(variant="cumulative", measurement="random", ranking="plausible", rows=64, strength=0.01, gain=100.0)
    return RobbingTheFed(**(rule | dict(voiding="none", observations=1, adaptive=False) | changes))


def curious(**changes) -> CuriousAbandonHonesty:
    rule = dict(sigma=0.5, scale=0.95, rows=128, strength=0.01, gain=100.0)
    return CuriousAbandonHonesty(**(rule | dict(voiding="none", observations=1, adaptive=False) | changes))


def secure(**changes) -> SecureAggregation:
    rule = dict(mode="ideal", max_value=16.0, fraction_bits=20, threshold=0.6, dropout=0.0)
    return SecureAggregation(**(rule | changes))


def downlink(auxiliary: torch.Tensor, **facts) -> DownlinkSurface:
    torch.manual_seed(0)
    net = Net(TinyMLP())
    split = Split(auxiliary, torch.zeros(len(auxiliary), dtype=torch.int64))
    return DownlinkSurface(net, net.initial(), 1, (1, 8, 8), 10, split, Published(**facts))


def gradients(threat, view, x):
    """Return the trap's block and its gradients on images x (n, 1, 8, 8), all of one class."""
    query = threat.queries(view, torch.Generator().manual_seed(0))[0]
    gradient = query.net.gradient(query.params, x, torch.zeros(len(x), dtype=torch.int64))
    block = threat.block(view, torch.Generator().manual_seed(0))
    return block, *list(query.net.layout.split(gradient).values())[:2]


def gaussian(n: int, seed: int) -> torch.Tensor:
    """Return images around grey, almost all of whose pixels lie in [0, 1]."""
    return 0.5 + 0.05 * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", ["cumulative", "sparse"])
@pytest.mark.parametrize("rows", [2, 17, 200])
def test_one_image_is_recovered_exactly_for_every_number_of_bins(variant, rows):
    threat, view, x = robbing(variant=variant, rows=rows), downlink(gaussian(300, 0)), gaussian(1, 1)
    block, weight, bias = gradients(threat, view, x)
    found = threat.read(weight, bias, block, 1)
    assert found.shape == (1, PIXELS)
    assert (found - x.flatten(1)).abs().max() < 1e-4


def test_two_images_in_one_bin_give_a_convex_mean():
    threat, view = robbing(rows=1), downlink(gaussian(300, 0))
    x = gaussian(2, 1)
    block, weight, bias = gradients(threat, view, x)
    (found,) = threat.read(weight, bias, block, 2)
    a, b = x.flatten(1)
    share = ((found - b) @ (a - b)) / (a - b).square().sum()
    assert 0 < share < 1
    assert torch.allclose(found, share * a + (1 - share) * b, atol=1e-4)


@pytest.mark.parametrize("variant", ["cumulative", "sparse"])
def test_the_share_of_isolated_images_follows_the_formula(variant):
    images, rows = 48, 64
    shares = []
    for seed in range(4):
        threat, view, x = robbing(variant=variant, rows=rows), downlink(gaussian(2000, 99)), gaussian(images, seed)
        block, weight, bias = gradients(threat, view, x)
        found = threat.read(weight, bias, block, images)
        shares.append((torch.cdist(x.flatten(1), found).amin(dim=1) < 0.02).float().mean().item())
    assert sum(shares) / len(shares) == pytest.approx(expected_share(images, rows), abs=0.1)


def test_gain_scales_the_gradient_and_not_the_forward_pass():
    view, x = downlink(gaussian(300, 0)), gaussian(4, 1)
    outputs, sizes = [], []
    for gain in (1.0, 100.0):
        threat = robbing(gain=gain)
        query = threat.queries(view, torch.Generator().manual_seed(0))[0]
        outputs.append(query.net.logits(query.params, x))
        sizes.append(gradients(threat, view, x)[1].norm())
    assert torch.allclose(*outputs, atol=1e-4)
    assert sizes[1] / sizes[0] == pytest.approx(100.0, rel=1e-3)


def test_curious_abandon_honesty_recovers_an_image_that_activates_rows_by_itself():
    threat, view = curious(scale=1.0), downlink(gaussian(10, 0))
    x = gaussian(1, 1)
    block, weight, bias = gradients(threat, view, x)
    found = threat.read(weight, bias, block, 3)
    assert len(found) == 1 and (found - x.flatten(1)).abs().max() < 1e-3
    assert threat.read(torch.zeros_like(weight), torch.zeros_like(bias), block, 3).shape == (0, PIXELS)


def played(threat, *defenses, seed=0, **changes):
    from benchmark.settings.stack import Stack

    setting = collaboration(**(dict(victims=4, victim_batch_size=4, rounds=1) | changes))
    guard = Stack(defenses) if defenses else None
    return setting.play(context(threat, guard, architecture=partial(TinyMLP), seed=seed)).risk["recovered_share"]


def fishing(**changes) -> Fishing:
    return Fishing(**(dict(gain=10.0, voiding="none", observations=1, adaptive=False) | changes))


def test_edges_lie_between_the_steps_of_brightness_and_give_bins_of_equal_weight():
    values = torch.arange(100).float() / 64
    edges = bin_edges(values, 10)
    assert edges[0] < -9
    assert torch.allclose(edges[1:] * 64, torch.arange(9, 99, 10) + 0.5, atol=1.1)
    assert torch.allclose((edges[1:] * 64) % 1, torch.tensor(0.5), atol=1e-3)


def test_fishing_recovers_exactly_the_only_samples_of_their_class():
    x, y = gaussian(6, 1), torch.tensor([0, 1, 1, 4, 5, 5])
    view = downlink(gaussian(2, 0))
    threat = fishing()
    queries = threat.queries(view, torch.Generator())
    assert len(queries) == 10
    answers = [
        Answer(query.net.gradient(query.params, x, y)[None, None], [torch.zeros(1, dtype=torch.int64)])
        for query in queries
    ]
    surface = BroadcastSurface(
        queries=queries,
        answers=answers,
        batch_size=6,
        local_steps=1,
        lr=0.1,
        shape=(1, 8, 8),
        num_classes=10,
        auxiliary=view.auxiliary,
        published=[],
        labels=y[None],
        truth=x[None],
    )
    found = threat.attack(surface, torch.Generator()).x[0].flatten(1)
    assert (found.abs().sum(dim=1) > 0).sum() == 4  # of the classes 0, 1, 4 and 5
    distance = torch.cdist(x.flatten(1), found).amin(dim=1)
    assert (distance[[0, 3]] < 1e-3).all()
    assert (distance[[1, 2, 4, 5]] > 0.05).all()


@cache
def fished():
    """Return what fishing recovers of single uploads and of their sum."""
    return tuple(played(fishing(), *defense, victims=8, victim_batch_size=8) for defense in ((), (secure(),)))


@pytest.mark.ci
@pytest.mark.parametrize("voiding", ["sybil", "inconsistency"])
def test_fishing_needs_a_voided_sum_once_classes_repeat(voiding):
    alone, summed = fished()
    assert alone > 0.1
    assert summed < 0.05
    assert played(fishing(voiding=voiding), secure(), victims=8, victim_batch_size=8) == pytest.approx(alone, abs=0.05)


def test_secure_aggregation_does_not_stop_a_malicious_server():
    assert played(robbing()) > 0.6
    assert played(robbing(), secure()) > 0.4


@pytest.mark.parametrize("mode", ["ideal", "masked"])
@pytest.mark.parametrize("voiding", ["sybil", "inconsistency"])
def test_a_voided_secure_sum_gives_what_single_uploads_give(voiding, mode):
    assert played(robbing(voiding=voiding), secure(mode=mode)) == played(robbing())


def test_noise_stops_the_cumulative_form_and_averaging_fresh_noise_helps_the_sparse_one():
    def noise(amount, memo=False):
        rule = dict(kind="rel", floor=0.0, grid=[1.0], drop=0.01, max_norm=1.0, shares=1, delta=1e-3)
        return NoiseTolerance(amount=amount, memo=memo, **rule)

    repeated = robbing(variant="sparse", observations=100, adaptive=True)
    assert played(robbing(), noise(1.0)) < 0.05
    once, often = played(robbing(variant="sparse"), noise(1.0)), played(repeated, noise(1.0))
    assert often > once + 0.2
    first = played(robbing(variant="sparse"), noise(1.0, memo=True))
    assert played(repeated, noise(1.0, memo=True)) <= first + 0.05


def test_a_sum_is_taken_over_the_group_and_averaged_over_observations():
    uploads = torch.tensor([[[1.0], [2.0], [4.0]], [[3.0], [4.0], [6.0]]])
    groups = torch.tensor([0, 0, 2])
    answer = Answer(uploads, [groups, groups])
    assert sum_of(answer, 1).item() == 5.0
    assert sum_of(answer, 2).item() == 5.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"voiding": "magic"}, "none, sybil, inconsistency"),
        ({"variant": "dense"}, "variant must be cumulative or sparse"),
        ({"ranking": "truth"}, "ranking must be bias or plausible"),
        ({"rows": 0}, "rows must be a whole number of at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        robbing(**wrong)


# -- what the adaptive form adds ------------------------------------------------------------------------
def test_with_a_screen_of_parallel_rows_one_image_is_still_recovered():
    threat, view, x = (
        robbing(variant="sparse", adaptive=True),
        downlink(gaussian(300, 0), screen_cosine=0.999),
        gaussian(1, 1),
    )
    query = threat.queries(view, torch.Generator().manual_seed(0))[0]
    assert parallel_share(query.net.layout, query.params, 0.999) < 0.05
    plain = robbing(variant="sparse").queries(downlink(gaussian(300, 0)), torch.Generator().manual_seed(0))[0]
    assert parallel_share(plain.net.layout, plain.params, 0.999) > 0.99
    block, weight, bias = gradients(threat, view, x)
    found = threat.read(weight, bias, block, 1)
    assert len(found) == 0 or (found - x.flatten(1)).abs().max() < 1e-3


def test_the_filter_removes_noise_and_keeps_clean_and_black_guesses():
    own = Digits(sizes={"owner": 400, "attacker": 100, "test": 10}).load(None, 0)
    truth = own.attacker.x[:50]
    noisy = (truth + 0.2 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    cleaned = without_noise(noisy[None], own.owner.x)[0]
    assert (cleaned - truth).square().mean() < 0.7 * (noisy - truth).square().mean()
    kept = without_noise(truth[None], own.owner.x)[0]
    assert (kept - truth).square().mean() < 2e-3
    assert without_noise(torch.zeros(1, 2, 1, 8, 8), own.owner.x).abs().max() == 0
