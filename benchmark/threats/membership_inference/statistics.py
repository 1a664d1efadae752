"""Statistics of how much of a release lies near a point; higher values are more typical of members.

Nearest release: Chen, Yu, Zhang, Fritz, *GAN-Leaks*, CCS 2020. Monte-Carlo ball: Hilprecht, Haerterich, Bernau, *Monte
Carlo and Reconstruction Membership Inference Attacks against Generative Models*, PoPETs 2019. Density ratio: van
Breugel, Sun, Qian, van der Schaar, *Membership Inference Attacks against Synthetic Data through Overfitting Detection*
(DOMIAS), AISTATS 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.errors import ConfigError, Refused
from benchmark.metrics.distances import exact_cdist, nearest

SMALLEST = 1e-6  # least distance, before its logarithm is taken
COMPONENTS = 10

Statistic = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function ``statistic(points, released, reference) -> (n,)``, all (., d) in one space."""


def minus_log_nearest(
    points: Float[Tensor, "n d"], released: Float[Tensor, "m d"], reference: Float[Tensor, "k d"]
) -> Float[Tensor, " n"]:
    """Return minus the logarithm of the distance to the nearest released row."""
    return -nearest(points, released)[0].clamp_min(SMALLEST).log()


def calibrated(
    points: Float[Tensor, "n d"], released: Float[Tensor, "m d"], reference: Float[Tensor, "k d"]
) -> Float[Tensor, " n"]:
    """Return :func:`minus_log_nearest` for the release minus that for the reference, made without the private data."""
    return minus_log_nearest(points, released, reference) - minus_log_nearest(points, reference, reference)


def ball(
    points: Float[Tensor, "n d"], released: Float[Tensor, "m d"], reference: Float[Tensor, "k d"]
) -> Float[Tensor, " n"]:
    """Return the share of released rows within the median, over the points, of the distance to the nearest row."""
    distances = exact_cdist(points, released)
    radius = distances.min(dim=1).values.median().clamp_min(SMALLEST)
    return (distances <= radius).double().mean(dim=1)


def density_ratio(
    points: Float[Tensor, "n d"], released: Float[Tensor, "m d"], reference: Float[Tensor, "k d"]
) -> Float[Tensor, " n"]:
    """Return the log ratio of two kernel density estimates in the first principal components of the reference."""
    to_components = principal_components(reference, COMPONENTS)
    points, released, reference = (to_components(rows) for rows in (points, released, reference))
    return log_density(points, released) - log_density(points, reference)


def correlation(
    points: Float[Tensor, "n d"], released: Float[Tensor, "m d"], reference: Float[Tensor, "k d"]
) -> Float[Tensor, " n"]:
    """Return the largest correlation with a released row, in [-1, 1]; it ignores a pattern's level and size."""
    scaled = []
    for rows in (points.double(), released.double()):
        centred = rows - rows.mean(dim=1, keepdim=True)
        scaled.append(centred / centred.norm(dim=1, keepdim=True).clamp_min(SMALLEST))
    return (scaled[0] @ scaled[1].T).amax(dim=1)


def principal_components(rows: Float[Tensor, "n d"], count: int) -> Callable[[Tensor], Tensor]:
    """Return the map to at most ``count`` principal components of ``rows``."""
    mean = rows.double().mean(dim=0)
    _, _, right = torch.linalg.svd(rows.double() - mean, full_matrices=False)
    axes = right[:count].T
    return lambda x: (x.double() - mean) @ axes


def log_density(points: Float[Tensor, "n d"], sample: Float[Tensor, "m d"]) -> Float[Tensor, " n"]:
    """Return the log of a Gaussian kernel density estimate with Scott's bandwidth times the sample's deviation per
    axis."""
    count, dimensions = sample.shape
    scale = sample.std(dim=0).clamp_min(SMALLEST) * count ** (-1 / (dimensions + 4))
    squares = exact_cdist(points / scale, sample / scale).square()
    volume = math.log(count) + scale.log().sum() + dimensions / 2 * math.log(2 * math.pi)
    return torch.logsumexp(-squares / 2, dim=1) - volume


STATISTICS: dict[str, Statistic] = {
    "nearest": minus_log_nearest,
    "calibrated": calibrated,
    "ball": ball,
    "density": density_ratio,
    "correlation": correlation,
}


def statistic_named(name: str) -> Statistic:
    """Return the statistic of this name.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in STATISTICS:
        raise ConfigError(f"threat.statistic is one of {', '.join(STATISTICS)}, not {name!r}.")
    return STATISTICS[name]


def comparable(
    points: Float[Tensor, "n ..."], released: Float[Tensor, "m ..."]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Return both as flat vectors of one length.

    Raises:
        Refused: released rows have another number of values than private samples.
    """
    points, released = points.flatten(start_dim=1), released.flatten(start_dim=1)
    if points.shape[1] != released.shape[1]:
        raise Refused(
            f"Released rows hold {released.shape[1]} values and private samples {points.shape[1]}: distances between "
            "them mean nothing."
        )
    return points, released
