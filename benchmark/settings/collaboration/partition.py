"""Partitions of the private data among the parties."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.seeds import child


def partition(data: Split, parties: int, rng: torch.Generator, alpha: float | None = None) -> list[Split]:
    """Return ``parties`` disjoint shares of one size.

    Args:
        alpha: None partitions at random (IID). A number gives each party its own mixture of classes, drawn from a
            symmetric Dirichlet distribution (Hsu et al. 2019, arXiv 1909.06335): the smaller it is, the fewer
            classes a party holds.

    Raises:
        ConfigError: fewer samples than parties.
    """
    share = len(data) // parties
    if share == 0:
        raise ConfigError(f"{len(data)} samples cannot be dealt to {parties} parties; lower setting.parties.")
    order = torch.randperm(len(data), generator=rng)
    if alpha is None:
        return [data[order[i * share : (i + 1) * share]] for i in range(parties)]
    return [data[order[rows]] for rows in _by_mixture(data.y.cpu()[order].numpy(), parties, share, alpha, child(rng))]


def _by_mixture(y: np.ndarray, parties: int, share: int, alpha: float, seed: int) -> list[Tensor]:
    """Return the row numbers of each party's share.

    Parties take turns in random order, so that the shortage towards the end, when a party whose classes have run out
    takes what is left, is the same for all.
    """
    rng = np.random.default_rng(seed)
    labels = np.unique(y)
    piles = [list(np.flatnonzero(y == label)) for label in labels]
    mixtures = rng.dirichlet(np.full(len(labels), alpha), size=parties)
    rows: list[list[int]] = [[] for _ in range(parties)]
    for party in rng.permutation(np.repeat(np.arange(parties), share)):
        left = np.array([len(pile) for pile in piles])
        wish = mixtures[party] * (left > 0)
        wish = wish if wish.sum() > 0 else left
        pile = piles[rng.choice(len(labels), p=wish / wish.sum())]
        rows[party].append(int(pile.pop()))
    return [torch.tensor(taken) for taken in rows]


def partition_by_class(data: Split, parties: int, num_classes: int) -> list[Split]:
    """Return shares of whole classes: each party gets the next ``num_classes / parties`` of them.

    Shares are cut to the size of the smallest, so that every party has the same weight.

    Raises:
        ConfigError: fewer classes than parties, or a party without samples.
    """
    if parties > num_classes:
        raise ConfigError(f"{num_classes} classes cannot be dealt to {parties} parties; lower setting.parties.")
    shares = [data[torch.isin(data.y, classes.to(data.y))] for classes in torch.arange(num_classes).chunk(parties)]
    size = min(len(share) for share in shares)
    if size == 0 or len(shares) < parties:
        raise ConfigError(
            f"A party gets no samples when classes are dealt to {parties} parties; lower setting.parties."
        )
    return [share[:size] for share in shares]


def partition_one_apart(data: Split, parties: int, apart: int, rng: torch.Generator) -> list[Split]:
    """Return ``parties`` disjoint shares of one size; the first holds the class ``apart``, all of it and nothing else.

    The other classes are partitioned among the others at random.

    Raises:
        ConfigError: the class is too rare for a share of the size of the others', or there are too few samples.
    """
    alone = (data.y == apart).nonzero().squeeze(1)
    shares = partition(data[data.y != apart], max(1, parties - 1), rng)
    size = min(len(shares[0]), len(alone))
    if parties < 3 or size == 0:
        raise ConfigError(
            f"setting.partition=one_class_apart needs 3 parties or more and samples of class {apart} "
            f"(setting.apart), got {parties} parties and {len(alone)} samples."
        )
    return [data[alone[torch.randperm(len(alone), generator=rng)[:size]]], *(share[:size] for share in shares)]
