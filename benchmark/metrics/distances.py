"""Distances between many vectors at once."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(rows: Tensor) -> Tensor:
    """(n, d) -> float64 (n, n), squared L2 distances in [0, inf), by one matrix product.

    In double precision, because near rows of large norm would otherwise lose their distance to cancellation.
    """
    rows = rows.double()
    gram = rows @ rows.T
    norms = gram.diagonal()
    distances = (norms[:, None] + norms[None, :] - 2 * gram).clamp_min(0)
    return distances.fill_diagonal_(0)


def diameter(rows: Tensor) -> float:
    """The largest L2 distance between two of the rows (n, d); 0 for a single row."""
    return float(torch.sqrt(squared_distances(rows).max()))
