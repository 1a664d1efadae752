"""Robust aggregation: closed forms, properties that all rules share, and where each of them breaks."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmark.defenses.collaboration.aggregation.bulyan import Bulyan, krum_picks
from benchmark.defenses.collaboration.aggregation.centered_clipping import CenteredClipping
from benchmark.defenses.collaboration.aggregation.clipped_clustering import ClippedClustering
from benchmark.defenses.collaboration.aggregation.coordinate_median import CoordinateMedian
from benchmark.defenses.collaboration.aggregation.dnc import DnC
from benchmark.defenses.collaboration.aggregation.fltrust import FLTrust
from benchmark.defenses.collaboration.aggregation.foolsgold import FoolsGold, foolsgold_weights
from benchmark.defenses.collaboration.aggregation.geometric_median import GeometricMedian
from benchmark.defenses.collaboration.aggregation.krum import Krum, krum_scores
from benchmark.defenses.collaboration.aggregation.mda import MDA
from benchmark.defenses.collaboration.aggregation.meamed import Meamed
from benchmark.defenses.collaboration.aggregation.multi_krum import MultiKrum
from benchmark.defenses.collaboration.aggregation.server_norm_bound import ServerNormBound
from benchmark.defenses.collaboration.aggregation.signguard import SignGuard
from benchmark.defenses.collaboration.aggregation.trimmed_mean import TrimmedMean
from benchmark.defenses.collaboration.clients.gradient_clipping import GradientClipping
from benchmark.errors import ConfigError
from benchmark.metrics.distances import COLUMNS, diameter, inner_products, squared_distances
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.defense import Defense
from benchmark.settings.stack import Stack
from benchmark.training.clipping import clip_rows
from benchmark.training.functional import Layout

D = 12
LAYOUT = Layout(("first", "weight", "bias"), ((6,), (4,), (2,)))
HONEST_DIRECTION = torch.linspace(0.5, 1.5, D)

RULES = {
    "krum": Krum(f_assumed=2),
    "multi_krum": MultiKrum(f_assumed=2),
    "bulyan": Bulyan(f_assumed=2),
    "coordinate_median": CoordinateMedian(),
    "trimmed_mean": TrimmedMean(f_assumed=2),
    "geometric_median": GeometricMedian(iterations=50, nu=1e-6),
    "server_norm_bound": ServerNormBound(max_norm=2.0, noise_std=0.0),
    "centered_clipping": CenteredClipping(radius=2.0, iterations=3),
    "foolsgold": FoolsGold(features="last_layer", confidence=1.0),
    "fltrust": FLTrust(),
    "meamed": Meamed(f_assumed=2),
    "mda": MDA(f_assumed=2),
    "dnc": DnC(f_assumed=2, filter_factor=1.0, coordinates=12, samples=2),
    "signguard": SignGuard(shortest=0.1, longest=3.0, share=1.0),
    "clipped_clustering": ClippedClustering(),
}
SELECTING = (
    *("krum", "multi_krum", "bulyan", "coordinate_median", "trimmed_mean", "geometric_median"),
    *("meamed", "mda", "dnc"),
)


def turn(n: int, server: torch.Tensor | None = HONEST_DIRECTION) -> Round:
    update = None if server is None else (lambda: server)
    return Round(0, LAYOUT, torch.zeros(D), torch.arange(n), generator(0, "round"), server_update=update)


def aggregate(rule: Defense, uploads: torch.Tensor, **server: torch.Tensor | None) -> torch.Tensor:
    rule = copy.deepcopy(rule)
    rule.start(len(uploads), LAYOUT)
    return rule.aggregate(uploads, turn(len(uploads), **server))


def honest(n: int, seed: int = 0) -> torch.Tensor:
    return HONEST_DIRECTION + 0.2 * torch.randn(n, D, generator=generator(seed, "honest"))


@pytest.mark.parametrize("name", RULES)
def test_the_order_of_parties_does_not_matter(name):
    uploads = honest(11)
    order = torch.randperm(11, generator=generator(0, "order"))
    torch.testing.assert_close(aggregate(RULES[name], uploads), aggregate(RULES[name], uploads[order]))


@pytest.mark.parametrize("name", [*SELECTING, "fltrust", "signguard", "clipped_clustering"])
def test_agreement_is_kept(name):
    agreed = aggregate(RULES[name], HONEST_DIRECTION.expand(11, -1))
    torch.testing.assert_close(agreed, HONEST_DIRECTION, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SELECTING)
def test_a_common_shift_shifts_the_result(name):
    uploads, shift = honest(11), 3 * torch.randn(D, generator=generator(1, "shift"))
    moved = aggregate(RULES[name], uploads + shift)
    torch.testing.assert_close(moved, aggregate(RULES[name], uploads) + shift, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", RULES)
def test_two_of_eleven_at_a_million_do_not_carry_the_result_away(name):
    uploads = honest(11)
    radius = (uploads - uploads.mean(0)).norm(dim=1).max()
    uploads[[3, 7]] = -1e6
    result = aggregate(RULES[name], uploads)
    clipped = {"server_norm_bound": 2.0 + 2 * 2 / 11 * 2.0, "centered_clipping": 3 * 2 * 2.0}
    assert (result - HONEST_DIRECTION).norm() <= clipped.get(name, 2 * radius)
    assert uploads.mean(0).norm() > 1e5


@pytest.mark.parametrize(
    "name",
    ["krum", "multi_krum", "bulyan", "trimmed_mean", "meamed", "mda", "dnc"],
)
def test_more_than_f_colluding_parties_break_a_rule_that_assumes_f(name):
    uploads = honest(11)
    uploads[:6] = -1e6
    assert aggregate(RULES[name], uploads).norm() > 1e5


STANDS = {"krum": 4, "multi_krum": 4, "bulyan": 2, "trimmed_mean": 5, "meamed": 5, "mda": 5, "dnc": 5}
"""The most malicious uploads of eleven for which a rule is proven: n >= 2f + 3, 4f + 3 or 2f + 1."""


@pytest.mark.parametrize("name", STANDS)
def test_without_a_number_a_rule_prepares_for_as_many_as_it_can_stand(name):
    uploads, rule = honest(11), type(RULES[name])()
    radius = (uploads - uploads.mean(0)).norm(dim=1).max()
    uploads[: STANDS[name]] = -1e6
    assert (aggregate(rule, uploads) - HONEST_DIRECTION).norm() <= 2 * radius
    numbered = copy.deepcopy(rule)
    numbered.f = STANDS[name]
    torch.testing.assert_close(aggregate(rule, uploads), aggregate(numbered, uploads))


@pytest.mark.parametrize("name", STANDS)
def test_beyond_its_guarantee_a_rule_is_refused(name):
    rule = copy.deepcopy(RULES[name])
    rule.f = STANDS[name] + 1
    with pytest.raises(ConfigError, match=f"{name} with f_assumed={STANDS[name] + 1} needs at least"):
        aggregate(rule, honest(11))


def test_an_invalid_upload_that_was_dropped_is_one_of_those_assumed():
    uploads, after = honest(9), turn(9)
    after.invalid = 2
    once, again = TrimmedMean(f_assumed=3), TrimmedMean(f_assumed=1)
    torch.testing.assert_close(once.aggregate(uploads, after), again.aggregate(uploads, turn(9)))
    assert torch.equal(
        TrimmedMean().aggregate(uploads, after), CoordinateMedian().aggregate(uploads, after)
    )  # f = 4 of the nine that are left


def test_mda_without_a_number_compares_no_more_subsets_than_it_may():
    uploads = honest(30)
    uploads[:4] = -1e6  # "30 choose 5" are fewer than 200,000 subsets, "30 choose 6" more
    assert aggregate(MDA(), uploads).norm() < 1e3


def test_multi_krum_averages_as_many_as_it_is_told():
    points = torch.tensor([[0.0], [1.0], [1.5], [3.0], [10.0]])
    assert MultiKrum(f_assumed=1, kept=2).aggregate(points, turn(5)).item() == pytest.approx((1 + 1.5) / 2)


@pytest.mark.parametrize("name", ["coordinate_median", "geometric_median", "signguard", "clipped_clustering"])
def test_majorities_break_at_one_half_and_not_before(name):
    for bad, breaks in ((5, False), (6, True)):
        uploads = honest(11)
        uploads[:bad] = -1e6
        assert (aggregate(RULES[name], uploads).norm() > 1e4) == breaks


def test_what_clips_is_moved_by_direction_and_what_trusts_by_a_wrong_root():
    uploads = honest(11)
    bound = aggregate(RULES["server_norm_bound"], torch.cat([uploads[:5], -1e6 * uploads[:6]]))
    assert bound @ HONEST_DIRECTION < 0
    assert aggregate(FLTrust(), uploads, server=-HONEST_DIRECTION).norm() == 0


def test_foolsgold_is_blind_to_a_single_adversary():
    rule, uploads = RULES["foolsgold"], torch.eye(D)[[6, 7, 8, 9, 10]]
    uploads[0] *= -1e6
    assert aggregate(rule, uploads).norm() > 1e5


def test_krum_on_five_points_takes_the_one_with_the_nearest_neighbours():
    points = torch.tensor([[0.0], [1.0], [1.5], [3.0], [10.0]])
    # n - f - 2 = 2 neighbours: 1 + 2.25, 0.25 + 1, 0.25 + 2.25, 2.25 + 4, 49 + 72.25
    scores = krum_scores(squared_distances(points), 2)
    torch.testing.assert_close(scores, torch.tensor([3.25, 1.25, 2.5, 6.25, 121.25]).double())
    assert Krum(f_assumed=1).aggregate(points, turn(5)).item() == 1.0
    assert MultiKrum(f_assumed=1).aggregate(points, turn(5)).item() == pytest.approx((0 + 1 + 1.5 + 3) / 4)


def test_bulyan_on_seven_points():
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [1000.0]])
    # Five are selected, the outlier not; of them the mean of the three nearest to their median.
    result = Bulyan(f_assumed=1).aggregate(points, turn(7)).item()
    picked = krum_picks(squared_distances(points), 1).tolist()
    assert len(set(picked)) == 5 and 6 not in picked
    assert result == pytest.approx(points[picked].sort(0).values[1:4].mean().item())


def test_bulyan_equals_a_plain_loop():
    uploads = torch.randn(15, 6, generator=generator(0, "bulyan"))
    f, left, picked = 3, list(range(15)), []
    while len(picked) < 15 - 2 * f:
        neighbours = max(1, len(left) - f - 2)
        scores = [
            sum(sorted(float((uploads[i] - uploads[j]).square().sum()) for j in left if j != i)[:neighbours])
            for i in left
        ]
        picked.append(left.pop(scores.index(min(scores))))
    chosen = uploads[picked]
    middle = chosen.quantile(0.5, dim=0)
    columns = [sorted(chosen[:, k].tolist(), key=lambda v, k=k: abs(v - middle[k]))[: 15 - 4 * f] for k in range(6)]
    expected = torch.tensor([sum(column) / len(column) for column in columns])
    torch.testing.assert_close(Bulyan(f_assumed=f).aggregate(uploads, turn(15)), expected)


def test_medians_and_trimmed_mean_by_hand():
    rows = torch.tensor([[1.0, 9.0], [2.0, 5.0], [4.0, 7.0], [100.0, -50.0]])
    assert CoordinateMedian().aggregate(rows, turn(4)).tolist() == [3.0, 6.0]
    assert CoordinateMedian().aggregate(rows[:3], turn(3)).tolist() == [2.0, 7.0]
    assert TrimmedMean(f_assumed=1).aggregate(rows, turn(4)).tolist() == [3.0, 6.0]
    assert TrimmedMean(f_assumed=0).aggregate(rows, turn(4)).tolist() == rows.mean(0).tolist()


def test_the_geometric_median_minimises_the_sum_of_distances():
    uploads = torch.randn(9, 5, generator=generator(0, "median"))
    found = GeometricMedian(iterations=200, nu=1e-9).aggregate(uploads, turn(9))
    total = (uploads - found).norm(dim=1).sum()
    for seed in range(20):
        near = found + 0.01 * torch.randn(5, generator=generator(seed, "near"))
        assert (uploads - near).norm(dim=1).sum() >= total - 1e-5


def test_the_norm_bound_scales_long_uploads_only_and_its_noise_has_the_right_spread():
    uploads = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    rule = ServerNormBound(max_norm=1.0, noise_std=0.0)
    torch.testing.assert_close(rule.aggregate(uploads, turn(2)), torch.tensor([0.45, 0.6]))
    noisy = ServerNormBound(max_norm=1.0, noise_std=0.5).aggregate(torch.zeros(3, 20000), turn(3))
    assert noisy.std().item() == pytest.approx(0.5, rel=0.03)


def test_centered_clipping_moves_from_the_last_aggregate_and_forgets_at_the_start():
    rule = CenteredClipping(radius=1.0, iterations=1)
    rule.start(2, LAYOUT)
    uploads = torch.zeros(2, D)
    uploads[:, 0] = torch.tensor([10.0, 0.5])
    assert rule.aggregate(uploads, turn(2))[0].item() == pytest.approx(0.75)
    assert rule.aggregate(uploads, turn(2))[0].item() == pytest.approx(0.75 + (1.0 - 0.25) / 2)
    rule.start(2, LAYOUT)
    assert rule.aggregate(uploads, turn(2))[0].item() == pytest.approx(0.75)


def test_clipping_by_mixture_weights_equals_clipping_the_vectors():
    rule = CenteredClipping(radius=0.7, iterations=4)
    rule.start(9, LAYOUT)
    centre = torch.zeros(D)
    for seed in range(3):
        uploads = honest(9, seed)
        uploads[0] *= -1e3
        for _ in range(4):
            centre = centre + clip_rows(uploads - centre, 0.7).mean(dim=0)
        torch.testing.assert_close(rule.aggregate(uploads, turn(9)), centre)


def test_foolsgold_silences_twins_and_keeps_the_others():
    history = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    torch.testing.assert_close(foolsgold_weights(history, 1.0), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_foolsgold_pardons_an_honest_party_that_resembles_a_sybil():
    # 0 resembles the twins 1 and 2 by cosine 0.6, less than they resemble each other, so it is pardoned in part:
    # weight 1 - 0.6 * 0.6 / 1 = 0.64 before scaling by the largest weight, which is its own.
    history = torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(foolsgold_weights(history, 1.0), torch.tensor([1.0, 0.0, 0.0]))


def test_foolsgold_remembers_by_party():
    rule = FoolsGold(features="all", confidence=1.0)
    rule.start(4, LAYOUT)
    later = turn(2)
    later.parties = torch.tensor([3, 1])
    rule.aggregate(torch.ones(2, D), later)
    assert rule.history.sum(1).tolist() == [0, D, 0, D]


def test_foolsgold_knows_a_twin_that_the_round_leaves_out():
    rule, twin, other = FoolsGold(features="all", confidence=1.0), torch.eye(D)[0], torch.eye(D)[1:3]

    def play(parties: list[int], uploads: torch.Tensor) -> torch.Tensor:
        later = Round(0, LAYOUT, torch.zeros(D), torch.tensor(parties), generator(0, "round"))
        return rule.aggregate(uploads, later)

    rule.start(6, LAYOUT)
    play([0, 2], torch.stack([twin, other[0]]))
    sampled = play([1, 3], torch.stack([twin, other[1]]))  # party 1 is party 0's twin, which is not here
    torch.testing.assert_close(sampled, other[1])
    assert play([0, 1], torch.stack([twin, twin])).norm() == 0  # nothing but silenced parties


@pytest.mark.parametrize("seed", range(20))
def test_foolsgold_weighs_as_a_plain_loop_over_all_parties(seed):
    history = torch.randn(7, 5, generator=generator(seed, "history")) + 0.5
    history[6] = 0  # never sampled
    norms = history.norm(dim=1)
    cosine = [[0.0 if i == j or not norms[i] * norms[j] else float(history[i] @ history[j] / norms[i] / norms[j])
               for j in range(7)] for i in range(7)]  # fmt: skip
    nearest = [max(row) for row in cosine]
    for i in range(7):
        for j in range(7):
            if i != j and nearest[i] < nearest[j]:
                cosine[i][j] *= nearest[i] / nearest[j]
    alone = [min(1.0, max(0.0, 1 - max(row))) for row in cosine]
    scaled = torch.tensor([min(a / max(alone), 0.99) for a in alone])
    expected = (torch.log(scaled / (1 - scaled)) + 0.5).clamp(0, 1)
    torch.testing.assert_close(foolsgold_weights(history, 1.0), expected, atol=1e-4, rtol=1e-4)


def test_fltrust_on_three_uploads():
    server = torch.tensor([2.0, 0.0])
    uploads = torch.tensor([[5.0, 0.0], [-3.0, 0.0], [1.0, 1.0]])
    half = 2**-0.5
    expected = torch.tensor([2.0 + half * 2 * half, half * 2 * half]) / (1 + half)
    round_ = Round(0, LAYOUT, torch.zeros(2), torch.arange(3), generator(0, "r"), server_update=lambda: server)
    torch.testing.assert_close(FLTrust().aggregate(uploads, round_), expected)


def test_fltrust_without_root_data_says_where_they_come_from():
    with pytest.raises(ConfigError, match=r"dataset.sizes.calibration is 0"):
        aggregate(FLTrust(), honest(4), server=None)


@pytest.mark.parametrize(
    ("rule", "n", "message"),
    [
        (Krum(f_assumed=3), 8, r"krum with f_assumed=3 needs at least 2 f \+ 3 = 9 uploads a round, got 8; lower"),
        (MultiKrum(f_assumed=3), 8, "multi_krum .* raise setting.parties"),
        (Bulyan(f_assumed=2), 10, r"4 f \+ 3 = 11"),
        (TrimmedMean(f_assumed=2), 4, r"2 f \+ 1 = 5"),
    ],
)
def test_too_few_uploads_are_refused_with_the_remedy(rule, n, message):
    with pytest.raises(ConfigError, match=message):
        aggregate(rule, honest(n))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Krum(f_assumed=-1), "f_assumed must be a whole number of at least 0"),
        (lambda: FoolsGold(features="first", confidence=1.0), "last_layer or all"),
        (lambda: ServerNormBound(max_norm=0.0, noise_std=0.0), "max_norm must be above 0"),
        (lambda: CenteredClipping(radius=1.0, iterations=0), "iterations must be a whole number of at least 1"),
        (lambda: GeometricMedian(iterations=3, nu=0.0), "nu must be above 0"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_a_copied_stack_has_a_state_of_its_own():
    stack = Stack([GradientClipping(max_norm=1.0), CenteredClipping(radius=1.0, iterations=1)])
    stack.start(3, LAYOUT)
    copy.deepcopy(stack).aggregate(honest(3), turn(3))
    assert torch.equal(stack.members[1].centre, torch.zeros(D))


def test_distances_survive_a_large_common_offset():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]]) + 1e4
    assert squared_distances(rows)[0, 1].item() == pytest.approx(25.0, rel=1e-3)
    assert diameter(rows) == pytest.approx(5.0, rel=1e-3)


def test_inner_products_over_several_blocks_of_columns():
    rows = torch.randn(4, 2 * COLUMNS + 5, generator=generator(0, "rows"))
    origin = torch.randn(2 * COLUMNS + 5, generator=generator(1, "origin"))
    for given, whole in ((None, rows), (origin, rows.double() - origin.double())):
        torch.testing.assert_close(inner_products(rows, given), whole.double() @ whole.double().T)
