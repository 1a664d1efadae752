"""Robust aggregation of 50 uploads of 400,000 parameters, compared with byzfl.

Every rule must read the uploads, 80 MB. At the 15 GB/s of one core that takes 5 ms, the floor of rules whose
arithmetic takes less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath, Peer

if TYPE_CHECKING:
    import torch

    from benchmark.settings.collaboration.defense import FederatedDefense

    Rule = Callable[[torch.Tensor], torch.Tensor]

UPLOADS, PARAMETERS, MALICIOUS = 50, 400_000, 10


def coordinate_median(device: str = "cpu") -> HotPath:
    """Time the median of each coordinate: a sorting network against sorting.

    Floor: n log2 n - 1.4 n = 212 comparisons to sort 50 values, so 85 million minima and maxima each, 16 to an
    instruction: 8 ms. The network takes 330 comparisons.
    """
    from benchmark.defenses.collaboration.aggregation.coordinate_median import CoordinateMedian

    def plain(uploads: torch.Tensor) -> torch.Tensor:
        ordered = uploads.sort(dim=0).values
        return (ordered[(UPLOADS - 1) // 2] + ordered[UPLOADS // 2]) / 2

    return _path(CoordinateMedian(), plain, device, lambda byzfl: byzfl.Median())


def trimmed_mean(device: str = "cpu") -> HotPath:
    """Time the mean of each coordinate without 10 extremes a side: a sorting network against sorting.

    Floor: as for the median. The network takes 340 comparisons.
    """
    from benchmark.defenses.collaboration.aggregation.trimmed_mean import TrimmedMean

    def plain(uploads: torch.Tensor) -> torch.Tensor:
        return uploads.sort(dim=0).values[MALICIOUS : UPLOADS - MALICIOUS].mean(dim=0)

    return _path(TrimmedMean(f_assumed=MALICIOUS), plain, device, lambda byzfl: byzfl.TrMean(f=MALICIOUS))


def krum(device: str = "cpu") -> HotPath:
    """Time Krum: all distances by one matrix product against one pair at a time.

    Floor: 50 * 50 * 400,000 multiplications and additions in double precision, half of them by symmetry: 1 GFLOP, 25 ms
    at 40 GFLOPS. The product does not use the symmetry.
    """
    import torch

    from benchmark.defenses.collaboration.aggregation.krum import Krum

    def plain(uploads: torch.Tensor) -> torch.Tensor:
        distances = torch.stack([torch.stack([(a - b).norm() for b in uploads]) for a in uploads])
        nearest = distances.square().sort(dim=1).values[:, 1 : UPLOADS - MALICIOUS - 1]
        return uploads[nearest.sum(dim=1).argmin()]

    # byzfl sums over one neighbour more than the paper does for the same f
    return _path(Krum(f_assumed=MALICIOUS), plain, device, lambda byzfl: byzfl.Krum(f=MALICIOUS + 1))


def geometric_median(device: str = "cpu") -> HotPath:
    """Time three Weiszfeld steps: on inner products against on whole vectors.

    Floor: the inner products, as for Krum, or for three steps 6 passes over the uploads, 30 ms.
    """
    import torch

    from benchmark.defenses.collaboration.aggregation.geometric_median import GeometricMedian

    def plain(uploads: torch.Tensor) -> torch.Tensor:
        z = torch.zeros_like(uploads[0])
        for _ in range(3):
            weights = torch.stack([1 / (row - z).norm().clamp_min(1e-6) for row in uploads])
            z = (weights[:, None] * uploads).sum(dim=0) / weights.sum()
        return z

    return _path(
        GeometricMedian(iterations=3, nu=1e-6), plain, device, lambda byzfl: byzfl.GeometricMedian(nu=1e-6, T=3)
    )


def centered_clipping(device: str = "cpu") -> HotPath:
    """Time three repetitions of centred clipping: on inner products against on whole vectors.

    Floor: as for the geometric median.
    """
    import torch

    from benchmark.defenses.collaboration.aggregation.centered_clipping import CenteredClipping

    def plain(uploads: torch.Tensor) -> torch.Tensor:
        centre = torch.zeros_like(uploads[0])
        for _ in range(3):
            away = uploads - centre
            centre = centre + (away * (300 / away.norm(dim=1, keepdim=True)).clamp_max(1)).mean(dim=0)
        return centre

    rule = CenteredClipping(radius=300.0, iterations=3)
    return _path(rule, plain, device, lambda byzfl: byzfl.CenteredClipping(L=3, tau=300.0))


def bulyan(device: str = "cpu") -> HotPath:
    """Time Bulyan: a sorting network and a moving window against sorting and searching.

    Floor: Krum's, and sorting 30 values in each coordinate: 115 comparisons, 4 ms.
    """
    from benchmark.defenses.collaboration.aggregation.bulyan import Bulyan, krum_picks
    from benchmark.metrics.distances import squared_distances

    rule = Bulyan(f_assumed=MALICIOUS)

    def plain(uploads: torch.Tensor) -> torch.Tensor:
        selected = uploads[krum_picks(squared_distances(uploads), MALICIOUS)]
        distance = (selected - selected.quantile(0.5, dim=0)).abs()
        nearest = distance.topk(UPLOADS - 4 * MALICIOUS, dim=0, largest=False).indices
        return selected.gather(0, nearest).mean(dim=0)

    return _path(rule, plain, device)


def _path(
    rule: FederatedDefense,
    plain: Callable[[torch.Tensor], torch.Tensor],
    device: str,
    peer: Callable[[Any], Callable[..., Any]] | None = None,
) -> HotPath:
    """Return the hot path of ``rule`` on random uploads; ``peer`` makes its counterpart from the module byzfl."""
    import torch

    from benchmark.settings.collaboration.defense import Round
    from benchmark.training.functional import Layout

    rng = torch.Generator().manual_seed(0)
    uploads = torch.randn(UPLOADS, PARAMETERS, generator=rng).to(device)
    layout = Layout(("weight",), ((PARAMETERS,),))
    turn = Round(0, layout, torch.zeros(PARAMETERS, device=device), torch.arange(UPLOADS, device=device), rng)

    def fast() -> torch.Tensor:
        rule.start(UPLOADS, layout)
        return rule.aggregate(uploads, turn)

    def prepare() -> Callable[[], torch.Tensor]:
        import byzfl

        assert peer is not None
        theirs = peer(byzfl)
        return lambda: theirs(uploads)

    work = f"{UPLOADS} x {PARAMETERS:,} parameters"
    against = None if peer is None else Peer("byzfl", prepare, 1e-4)
    return HotPath(fast, lambda: plain(uploads), 1e-4, work, peer=against)


PATHS = {
    "coordinate_median": coordinate_median,
    "trimmed_mean": trimmed_mean,
    "krum": krum,
    "geometric_median": geometric_median,
    "centered_clipping": centered_clipping,
    "bulyan": bulyan,
}
