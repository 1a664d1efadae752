"""Rules that pick uploads by subsets, projections, signs or angles, and what servers do before any rule."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from benchmark.defenses.collaboration.aggregation.bucketing import Bucketing
from benchmark.defenses.collaboration.aggregation.clipped_clustering import ClippedClustering, larger_cluster
from benchmark.defenses.collaboration.aggregation.coordinate_median import CoordinateMedian
from benchmark.defenses.collaboration.aggregation.dnc import DnC, squared_projections
from benchmark.defenses.collaboration.aggregation.foolsgold import FoolsGold
from benchmark.defenses.collaboration.aggregation.krum import Krum
from benchmark.defenses.collaboration.aggregation.mda import MDA
from benchmark.defenses.collaboration.aggregation.meamed import Meamed
from benchmark.defenses.collaboration.aggregation.nnm import NNM
from benchmark.defenses.collaboration.aggregation.signguard import SignGuard, largest_cluster, sign_shares
from benchmark.defenses.collaboration.aggregation.validity_check import ValidityCheck
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.collaboration.rounds import receive
from benchmark.settings.stack import Stack
from benchmark.training.functional import Layout

NAN, INF = float("nan"), float("inf")


def turn(n: int, d: int = 1) -> Round:
    return Round(0, Layout(("w", "b"), ((d - 1,), (1,))), torch.zeros(d), torch.arange(n), generator(0, "round"))


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed, "filters"))


# -- rules -----------------------------------------------------------------------------------------


def test_meamed_on_five_points():
    points = torch.tensor([[0.0], [1.0], [2.0], [4.0], [100.0]])
    assert Meamed(f_assumed=2).aggregate(points, turn(5)).item() == 1.0  # of 0, 1 and 2, around the median 2
    assert Meamed(f_assumed=1).aggregate(points, turn(5)).item() == pytest.approx(7 / 4)


def test_mda_equals_a_plain_search():
    for seed in range(5):
        uploads = rows(7, 4, seed)
        subsets = list(combinations(range(7), 5))
        widths = [max(float((uploads[i] - uploads[j]).norm()) for i, j in combinations(s, 2)) for s in subsets]
        expected = uploads[list(subsets[widths.index(min(widths))])].mean(dim=0)
        torch.testing.assert_close(MDA(f_assumed=2).aggregate(uploads, turn(7)), expected)


def test_mda_refuses_more_subsets_than_it_can_look_at():
    with pytest.raises(ConfigError, match=r"subsets of 60 uploads; lower defense.mda.f_assumed"):
        MDA(f_assumed=20).aggregate(rows(60, 2), turn(60))


def test_projections_are_those_on_the_top_singular_vector():
    uploads = rows(9, 40)
    centred = (uploads - uploads.mean(dim=0)).double()
    along = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).square()
    ours = squared_projections(uploads)
    torch.testing.assert_close(ours / ours.sum(), along / along.sum())


def test_dnc_drops_what_sticks_out_and_nothing_else():
    uploads = 0.1 * rows(10, 50)
    uploads[[2, 5]] += 1
    kept = [row for row in range(10) if row not in (2, 5)]
    rule = DnC(f_assumed=2, filter_factor=1.0, coordinates=20, samples=1)
    torch.testing.assert_close(rule.aggregate(uploads, turn(10)), uploads[kept].mean(dim=0))


def test_dnc_samples_differ_and_each_may_drop_others():
    uploads = rows(12, 400)
    once, often = (DnC(f_assumed=2, filter_factor=1.0, coordinates=5, samples=n) for n in (1, 4))
    assert not torch.equal(once.aggregate(uploads, turn(12)), often.aggregate(uploads, turn(12)))


def test_signguard_counts_signs():
    assert sign_shares(torch.tensor([[1.0, 2.0, -1.0, 0.0]])).tolist() == [[0.5, 0.25, 0.25]]


def test_signguard_drops_turned_signs_and_unusual_lengths():
    uploads = rows(10, 200).abs() + 0.5
    uploads[0] *= -1  # all signs turned, at the usual length
    uploads[1] *= 100
    uploads[2] *= 1e-3
    kept = uploads[3:]
    lengths = uploads.norm(dim=1)
    expected = (kept * (lengths.median() / kept.norm(dim=1, keepdim=True)).clamp_max(1)).mean(dim=0)
    rule = SignGuard(shortest=0.1, longest=3.0, share=0.5)
    torch.testing.assert_close(rule.aggregate(uploads, turn(10)), expected)


def test_the_largest_cluster_of_equal_points_is_all_of_them():
    assert largest_cluster(torch.ones(4, 3)).all()


def test_clipped_clustering_follows_the_larger_group_by_angle():
    good = torch.tensor([1.0, 0.2, 0.0]) + 0.05 * rows(6, 3)
    uploads = torch.cat([-10 * good[:4], good])
    rule = ClippedClustering()
    rule.start(10, Layout(("w",), ((3,),)))
    median = uploads.norm(dim=1).median()
    expected = (good * (median / good.norm(dim=1, keepdim=True)).clamp_max(1)).mean(dim=0)
    torch.testing.assert_close(rule.aggregate(uploads, turn(10)), expected)


def test_clipped_clustering_remembers_lengths_until_it_starts_anew():
    rule = ClippedClustering()
    rule.start(2, Layout(("w",), ((2,),)))
    short, long = torch.eye(2), 5 * torch.eye(2)
    rule.aggregate(short, turn(2))
    rule.aggregate(short, turn(2))
    assert rule.aggregate(long, turn(2)).norm() == pytest.approx(0.5**0.5)  # clipped to 1, as most were
    rule.start(2, Layout(("w",), ((2,),)))
    assert rule.aggregate(long, turn(2)).norm() == pytest.approx(5 * 0.5**0.5)


def test_two_uploads_have_no_larger_cluster():
    assert larger_cluster(torch.eye(2)).all()


# -- before any rule -------------------------------------------------------------------------------


def test_nnm_by_hand():
    points = torch.tensor([[0.0], [1.0], [2.0], [100.0]])
    mixed = NNM(f_assumed=1).preaggregate(points, turn(4))
    torch.testing.assert_close(mixed, torch.tensor([[1.0], [1.0], [1.0], [103 / 3]]))


def test_nnm_keeps_far_uploads_out_of_the_others_mixtures_up_to_f_of_them():
    for bad, breaks in ((2, False), (3, True)):
        uploads = rows(9, 4)
        uploads[:bad] = 1e6
        mixed = NNM(f_assumed=2).preaggregate(uploads, turn(9))
        assert (mixed[bad:].norm(dim=1).max() > 1e4) == breaks


def test_nnm_without_malicious_parties_is_the_mean():
    uploads = rows(6, 5)
    mixed = NNM(f_assumed=0).preaggregate(uploads, turn(6))
    torch.testing.assert_close(mixed, uploads.mean(dim=0).expand(6, -1))


def test_buckets_keep_the_mean_and_hold_each_upload_once():
    uploads = torch.eye(6)
    mixed = Bucketing(size=2).preaggregate(uploads, turn(6))
    assert mixed.shape == (3, 6)
    torch.testing.assert_close(mixed.mean(dim=0), uploads.mean(dim=0))
    assert sorted(mixed.sum(dim=0).tolist()) == [0.5] * 6
    assert len(Bucketing(size=4).preaggregate(uploads, turn(6))) == 2


def test_a_rule_sees_what_was_mixed_before_it():
    uploads = rows(9, 4)
    uploads[:2] = 50.0
    alone, stacked = Krum(f_assumed=2), Stack([NNM(f_assumed=2), Krum(f_assumed=2)])
    mixed = NNM(f_assumed=2).preaggregate(uploads, turn(9))
    torch.testing.assert_close(receive(stacked, uploads, turn(9)), alone.aggregate(mixed, turn(9)))


def test_rules_that_remember_parties_refuse_buckets():
    stacked = Stack([Bucketing(size=2), FoolsGold(features="all", confidence=1.0)])
    stacked.start(6, Layout(("w",), ((4,),)))
    with pytest.raises(ConfigError, match="leave bucketing out"):
        receive(stacked, rows(6, 4), turn(6))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_no_number_is_dropped_and_its_party_contributes_nothing(bad):
    uploads = rows(5, 3)
    good = uploads[[0, 2, 4]].mean(dim=0)
    uploads[1, 2] = uploads[3, 0] = bad
    here = turn(5)
    torch.testing.assert_close(receive(ValidityCheck(), uploads, here), good)
    assert here.active.tolist() == [True, False, True, False, True]
    stacked = Stack([ValidityCheck(), CoordinateMedian()])
    assert receive(stacked, uploads, turn(5)).isfinite().all()


def test_a_round_in_which_nothing_is_valid_changes_nothing():
    assert receive(ValidityCheck(), torch.full((3, 4), NAN), turn(3, 4)).tolist() == [0.0] * 4


def test_parties_that_sat_out_stay_out():
    here = turn(4)
    here.active = torch.tensor([True, False, True, True])
    uploads = torch.tensor([[1.0], [9.0], [NAN], [3.0]])
    assert receive(ValidityCheck(), uploads, here).item() == 2.0
    assert here.active.tolist() == [True, False, False, True]
