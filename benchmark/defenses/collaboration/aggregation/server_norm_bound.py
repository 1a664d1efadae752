"""Norm bound on the server, with optional noise on the mean (Sun et al. 2019)."""

from __future__ import annotations

from torch import Tensor

from benchmark.parameters import NonNegative, Positive
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.clipping import clip_rows

VERSION = 1


class ServerNormBound(FederatedDefense):
    """Aggregation rule mean_i of u_i min(1, c / ||u_i||), plus N(0, noise_std^2) in each coordinate.

    Sun, Kairouz, Suresh, McMahan, *Can You Really Backdoor Federated Learning?*, arXiv 1911.07963, section 4 ("norm
    thresholding" and "weak differential privacy"). Unlike ``gradient_clipping``, which only honest parties apply, it
    bounds malicious uploads too.

    Args:
        max_norm: c, in gradient units.
        noise_std: of the noise on the mean; it carries no DP guarantee by itself.
    """

    def __init__(self, *, max_norm: Positive = 0.5, noise_std: NonNegative = 0.0) -> None:
        self.max_norm, self.noise_std = max_norm, noise_std

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        mean = clip_rows(uploads, self.max_norm).mean(dim=0)
        return mean + self.noise_std * normal_like(mean, round.rng) if self.noise_std else mean
