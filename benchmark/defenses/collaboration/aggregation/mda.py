"""Minimum diameter averaging: mean of the n - f uploads closest together (El Mhamdi et al., ICML 2018)."""

from __future__ import annotations

from itertools import combinations
from math import comb

import torch
from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.errors import ConfigError
from benchmark.metrics.distances import squared_distances
from benchmark.parameters import CountOrZero
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1
MAX_SUBSETS = 200_000  # more would take longer than the round itself


class MDA(FederatedDefense):
    """Aggregation rule that averages the subset of n - f uploads with the least diameter (largest pairwise distance).

    Rousseeuw's minimum diameter estimator; El Mhamdi, Guerraoui, Rouault, *The Hidden Vulnerability of Distributed
    Learning in Byzantium*, ICML 2018, section 3. It compares all "n choose f" subsets, so it suits few parties. Needs
    n >= 2f + 1.

    Args:
        f_assumed: as for :class:`benchmark.defenses.collaboration.aggregation.krum.Krum`; without a number also no more
            than ``MAX_SUBSETS`` subsets allow.

    Raises:
        ConfigError: a round would need more than ``MAX_SUBSETS`` subsets.
    """

    def __init__(self, *, f_assumed: CountOrZero | None = None) -> None:
        self.f = f_assumed

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        n = len(uploads)
        f = malicious_uploads("mda", self.f, n, round, each=2, more=1)
        if self.f is None:
            f = max(fewer for fewer in range(f + 1) if comb(n, fewer) <= MAX_SUBSETS)
        if comb(n, f) > MAX_SUBSETS:
            raise ConfigError(
                f"mda would compare {comb(n, f):,} subsets of {n} uploads; lower defense.mda.f_assumed or "
                "setting.parties."
            )
        distances = squared_distances(uploads).nan_to_num(torch.inf)
        subsets = torch.tensor(list(combinations(range(n), n - f)))
        diameters = torch.full((len(subsets),), -1.0, dtype=distances.dtype, device=distances.device)
        for i, j in combinations(range(n - f), 2):
            diameters = torch.maximum(diameters, distances[subsets[:, i], subsets[:, j]])
        return uploads[subsets[diameters.argmin()]].mean(dim=0)
