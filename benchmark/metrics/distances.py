"""Distances between many vectors at once."""

from __future__ import annotations

import torch
from torch import Tensor

COLUMNS = 2**13


def squared_distances(rows: Tensor) -> Tensor:
    """(n, d) -> float64 (n, n), squared L2 distances in [0, inf), by one matrix product.

    In double precision, because near rows of large norm would otherwise lose their distance to cancellation.
    """
    gram = inner_products(rows)
    norms = gram.diagonal()
    distances = (norms[:, None] + norms[None, :] - 2 * gram).clamp_min(0)
    return distances.fill_diagonal_(0)


def inner_products(rows: Tensor, origin: Tensor | None = None) -> Tensor:
    """(n, d) -> float64 (n, n), inner products of the rows, or of what they are from ``origin`` (d,).

    Summed over blocks of columns, which stay in a processor's cache: rows are never copied to double precision as a
    whole.
    """
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    starts = None if origin is None else origin.split(COLUMNS)
    for number, block in enumerate(rows.split(COLUMNS, dim=1)):
        block = block.double() if starts is None else block.double() - starts[number].double()
        products = products.addmm(block, block.T)
    return products


def diameter(rows: Tensor) -> float:
    """The largest L2 distance between two of the rows (n, d); 0 for a single row."""
    return float(torch.sqrt(squared_distances(rows).max()))


def nearest(rows: Tensor, among: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """For each row (n, ...) the L2 distance (n,) to its nearest neighbour ``among`` (m, ...), and which, int64 (n,)."""
    flat = among.flatten(start_dim=1)
    found = [exact_cdist(part, flat).min(dim=1) for part in rows.flatten(start_dim=1).split(chunk)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def exact_cdist(a: Tensor, b: Tensor) -> Tensor:
    """L2 distances (n, m) in float64, so that a copy is at distance 0 but for rounding far below any grey level."""
    a, b = a.double(), b.double()
    squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)[None, :] - 2 * a @ b.T
    return squares.clamp_min(0).sqrt()
