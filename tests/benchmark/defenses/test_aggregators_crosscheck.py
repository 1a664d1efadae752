"""Our aggregators against those of byzfl, on random inputs."""

from __future__ import annotations

import pytest
import torch

from benchmark.defenses.collaboration.aggregation.centered_clipping import CenteredClipping
from benchmark.defenses.collaboration.aggregation.coordinate_median import CoordinateMedian
from benchmark.defenses.collaboration.aggregation.geometric_median import GeometricMedian
from benchmark.defenses.collaboration.aggregation.krum import Krum, krum_scores
from benchmark.defenses.collaboration.aggregation.mda import MDA
from benchmark.defenses.collaboration.aggregation.meamed import Meamed
from benchmark.defenses.collaboration.aggregation.multi_krum import MultiKrum
from benchmark.defenses.collaboration.aggregation.nnm import NNM
from benchmark.defenses.collaboration.aggregation.server_norm_bound import ServerNormBound
from benchmark.defenses.collaboration.aggregation.trimmed_mean import TrimmedMean
from benchmark.metrics.distances import squared_distances
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.training.functional import Layout

pytestmark = pytest.mark.crosscheck
INPUTS = 100


@pytest.fixture(scope="module")
def byzfl():
    return pytest.importorskip("byzfl", reason="byzfl is part of the extra crosscheck")


def inputs(f: int):
    """Yield (n, d) uploads of many sizes and scales; the last f of them are far off in every other input."""
    for seed in range(INPUTS):
        rng = generator(seed, "crosscheck")
        n = int(torch.randint(2 * f + 4, 30, (), generator=rng))
        d = int(torch.randint(1, 300, (), generator=rng))
        uploads = torch.randn(n, d, generator=rng) * 10 ** float(torch.rand((), generator=rng) * 3 - 2)
        if f and seed % 2:
            uploads[-f:] += 5 * uploads.std()
        yield uploads


def turn(uploads: torch.Tensor) -> Round:
    d = uploads.shape[1]
    return Round(0, Layout(("w",), ((d,),)), torch.zeros(d), torch.arange(len(uploads)), generator(0, "round"))


def compare(ours, theirs, f: int) -> None:
    for uploads in inputs(f):
        round_ = turn(uploads)
        ours.start(len(uploads), round_.layout)
        expected = theirs()(uploads.clone())
        torch.testing.assert_close(ours.aggregate(uploads, round_), expected, atol=1e-5, rtol=1e-5)


def test_median(byzfl):
    compare(CoordinateMedian(), byzfl.Median, 3)


@pytest.mark.parametrize("f", [0, 1, 4])
def test_trimmed_mean(byzfl, f):
    compare(TrimmedMean(f_assumed=f), lambda: byzfl.TrMean(f=f), f)


@pytest.mark.parametrize("f", [0, 3])
def test_krum(byzfl, f):
    # byzfl sums over n - f - 1 neighbours, the paper over n - f - 2: its f is one more than the paper's.
    compare(Krum(f_assumed=f), lambda: byzfl.Krum(f=f + 1), f)


@pytest.mark.parametrize("f", [1, 3])
def test_multi_krum(byzfl, f):
    """The same scores; the number of uploads kept differs by the one of :func:`test_krum`."""
    for uploads in inputs(f):
        scores = krum_scores(squared_distances(uploads), len(uploads) - f - 2)
        expected = byzfl.MultiKrum(f=f + 1)(uploads.clone())
        best = uploads[scores.argsort()[: len(uploads) - f - 1]].mean(dim=0)
        torch.testing.assert_close(best, expected, atol=1e-5, rtol=1e-5)
        kept = MultiKrum(f_assumed=f).aggregate(uploads, turn(uploads)) * (len(uploads) - f)
        following = uploads[scores.argsort()[len(uploads) - f - 1]]
        total = best * (len(uploads) - f - 1) + following
        torch.testing.assert_close(kept, total, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("iterations", "nu"), [(3, 0.1), (8, 1e-3)])
def test_geometric_median(byzfl, iterations, nu):
    compare(GeometricMedian(iterations=iterations, nu=nu), lambda: byzfl.GeometricMedian(nu=nu, T=iterations), 3)


@pytest.mark.parametrize("iterations", [1, 4])
def test_centered_clipping(byzfl, iterations):
    compare(
        CenteredClipping(radius=0.7, iterations=iterations),
        lambda: byzfl.CenteredClipping(L=iterations, tau=0.7),
        3,
    )


def test_norm_bound(byzfl):
    def clip_then_average():
        return lambda uploads: byzfl.Clipping(c=0.7)(uploads).mean(dim=0)

    compare(ServerNormBound(max_norm=0.7, noise_std=0.0), clip_then_average, 3)


@pytest.mark.parametrize("f", [0, 1, 4])
def test_meamed(byzfl, f):
    compare(Meamed(f_assumed=f), lambda: byzfl.Meamed(f=f), f)


@pytest.mark.parametrize("f", [0, 2])
def test_mda(byzfl, f):
    for uploads in inputs(f):
        few = uploads[-9:]  # byzfl walks through the subsets one by one
        torch.testing.assert_close(
            MDA(f_assumed=f).aggregate(few, turn(few)), byzfl.MDA(f=f)(few.clone()), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("f", [0, 1, 4])
def test_nearest_neighbour_mixing(byzfl, f):
    for uploads in inputs(f):
        mixed = NNM(f_assumed=f).preaggregate(uploads, turn(uploads))
        torch.testing.assert_close(mixed, byzfl.NNM(f=f)(uploads.clone()), atol=1e-5, rtol=1e-5)
