"""Values of given rank in each coordinate of many uploads, by a sorting network.

A sorting network compares the same pairs whatever the values are, so one comparison is an element-wise minimum and
maximum of two whole uploads, whereas sorting each coordinate separately branches on every value. The network is
Batcher's odd-even merge sort (*Sorting Networks and Their Applications*, AFIPS 1968) without the comparisons that the
requested ranks do not need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_SIZE = 2**14
"""Coordinates processed together: 50 uploads of this length fit into a processor's cache."""


def mean_of_ranks(uploads: Float[Tensor, "n d"], first: int, last: int) -> Float[Tensor, " d"]:
    """Return the mean (d,) of the values of rank ``first``, ..., ``last - 1`` (from 0) in each coordinate of (n, d)."""

    def mean(rows: list[Tensor]) -> Tensor:
        return torch.stack(values_of_ranks(rows, first, last, ordered=False)).mean(dim=0)

    return map_blocks(uploads, mean)


def median(uploads: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Return the coordinate-wise median (d,) of (n, d); for even n the mean of the middle two."""
    return mean_of_ranks(uploads, (len(uploads) - 1) // 2, len(uploads) // 2 + 1)


def map_blocks(uploads: Tensor, compute: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """Apply ``compute``, which maps n rows (c,) to (c,), to blocks of coordinates of uploads (n, d) and return (d,).

    NaN counts as infinite, the largest value.
    """
    columns = BLOCK_SIZE if uploads.device.type == "cpu" else uploads.shape[1]
    blocks = (part.nan_to_num(torch.inf, torch.inf, -torch.inf) for part in uploads.split(columns, dim=1))
    return torch.cat([compute(list(block.unbind(0))) for block in blocks])


def values_of_ranks(rows: list[Tensor], first: int, last: int, *, ordered: bool) -> list[Tensor]:
    """Return the values of rank ``first``, ..., ``last - 1`` in each coordinate of n rows (c,), one row (c,) a rank.

    Args:
        ordered: sort the rows by rank; otherwise they hold the same values in any order, which takes fewer comparisons.
    """
    rows = list(rows)
    for low, high, keep_low, keep_high in sorting_network(len(rows), first, last, ordered):
        a, b = rows[low], rows[high]
        if keep_low:
            rows[low] = torch.minimum(a, b)
        if keep_high:
            rows[high] = torch.maximum(a, b)
    return rows[first:last]


@cache
def sorting_network(n: int, first: int, last: int, ordered: bool) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return comparisons (i, j, smaller is used, larger is used): the smaller value goes to i, the larger to j.

    All comparisons are visited backwards: one is left out if nothing after it uses its results or, where order does not
    matter, if it would only swap two of the requested values.
    """
    used, compared, kept = set(range(first, last)), set(), []
    for i, j in reversed(odd_even_merge_sort(n)):
        low, high = i in used, j in used
        if not (low or high) or not (ordered or i in compared or j in compared or low != high):
            continue
        kept.append((i, j, low, high))
        used |= {i, j}
        compared |= {i, j}
    return tuple(reversed(kept))


def odd_even_merge_sort(n: int) -> list[tuple[int, int]]:
    """Return Batcher's comparisons (i, j), i < j, that sort n values by merging sorted runs of length ``run``."""
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
