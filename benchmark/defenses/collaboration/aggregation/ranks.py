"""Values of given rank in each coordinate of many uploads, by a sorting network.

Which pairs a sorting network compares does not depend on the values, so one comparison is an element-wise minimum and
maximum of two whole uploads, where sorting each coordinate by itself branches on every value. The network is Batcher's
odd-even merge sort (*Sorting Networks and Their Applications*, AFIPS 1968), less what the wanted ranks do not ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

COLUMNS = 2**14
"""Coordinates that are handled together: 50 uploads of so many stay in a processor's cache."""


def mean_of_ranks(uploads: Tensor, first: int, last: int) -> Tensor:
    """The mean (d,) of the values of rank ``first``, ..., ``last - 1`` (from 0) in each coordinate of (n, d)."""

    def mean(rows: list[Tensor]) -> Tensor:
        return torch.stack(ranked(rows, first, last, ordered=False)).mean(dim=0)

    return by_columns(uploads, mean)


def median(uploads: Tensor) -> Tensor:
    """The median (d,) of each coordinate of (n, d); of an even number of uploads the mean of the middle two."""
    return mean_of_ranks(uploads, (len(uploads) - 1) // 2, len(uploads) // 2 + 1)


def by_columns(uploads: Tensor, compute: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """``compute`` of n rows (c,) -> (c,) on blocks of coordinates of the uploads (n, d), side by side: (d,).

    What is no number counts as infinite, the largest of all.
    """
    columns = COLUMNS if uploads.device.type == "cpu" else uploads.shape[1]
    blocks = (part.nan_to_num(torch.inf, torch.inf, -torch.inf) for part in uploads.split(columns, dim=1))
    return torch.cat([compute(list(block.unbind(0))) for block in blocks])


def ranked(rows: list[Tensor], first: int, last: int, *, ordered: bool) -> list[Tensor]:
    """Of n rows (c,) the values of rank ``first``, ..., ``last - 1`` in each coordinate: rows (c,), as many as ranks.

    Args:
        ordered: by rank; else the rows hold the same values in any order, which takes fewer comparisons.
    """
    rows = list(rows)
    for low, high, keep_low, keep_high in network(len(rows), first, last, ordered):
        a, b = rows[low], rows[high]
        if keep_low:
            rows[low] = torch.minimum(a, b)
        if keep_high:
            rows[high] = torch.maximum(a, b)
    return rows[first:last]


@cache
def network(n: int, first: int, last: int, ordered: bool) -> tuple[tuple[int, int, bool, bool], ...]:
    """Comparisons (i, j, whether the smaller is used, whether the larger is): the smaller goes to i, the larger to j.

    Backwards through all comparisons: one is left out whose results nothing after it uses, and, where order does not
    matter, one that would only swap two of the wanted values.
    """
    used, compared, kept = set(range(first, last)), set(), []
    for i, j in reversed(merge_sort(n)):
        low, high = i in used, j in used
        if not (low or high) or not (ordered or i in compared or j in compared or low != high):
            continue
        kept.append((i, j, low, high))
        used |= {i, j}
        compared |= {i, j}
    return tuple(reversed(kept))


def merge_sort(n: int) -> list[tuple[int, int]]:
    """Batcher's comparisons (i, j) with i < j that sort n values: runs of ``sorted`` values are merged pairwise."""
    comparisons, run = [], 1
    while run < n:
        step = run
        while step:
            for start in range(step % run, n - step, 2 * step):
                for i in range(start, min(start + step, n - step)):
                    if i // (2 * run) == (i + step) // (2 * run):
                        comparisons.append((i, i + step))
            step //= 2
        run *= 2
    return comparisons
