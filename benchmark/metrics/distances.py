"""Distances between many vectors at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

COLUMNS = 2**13


def squared_distances(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Return squared L2 distances of all rows, float64, by one matrix product.

    In double precision, because near rows of large norm would otherwise lose their distance to cancellation.
    """
    gram = inner_products(rows)
    norms = gram.diagonal()
    distances = (norms[:, None] + norms[None, :] - 2 * gram).clamp_min(0)
    return distances.fill_diagonal_(0)


def inner_products(rows: Float[Tensor, "n d"], origin: Float[Tensor, " d"] | None = None) -> Float[Tensor, "n n"]:
    """Return inner products of all rows, float64, or of their differences from ``origin``.

    Summed over blocks of columns, which stay in a processor's cache: rows are never copied to double precision as a
    whole.
    """
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    starts = None if origin is None else origin.split(COLUMNS)
    for number, block in enumerate(rows.split(COLUMNS, dim=1)):
        block = block.double() if starts is None else block.double() - starts[number].double()
        products = products.addmm(block, block.T)
    return products


def diameter(rows: Float[Tensor, "n d"]) -> float:
    """Return the largest L2 distance between two of the rows; 0 for a single row."""
    return float(torch.sqrt(squared_distances(rows).max()))


def nearest(
    rows: Float[Tensor, " n *sample"], among: Float[Tensor, " m *sample"], chunk: int = 1024
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Return each row's L2 distance to its nearest neighbour ``among`` others, and the neighbour's number."""
    flat = among.flatten(start_dim=1)
    found = [exact_cdist(part, flat).min(dim=1) for part in rows.flatten(start_dim=1).split(chunk)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def exact_cdist(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return L2 distances in float64, so that a copy is at distance 0 but for rounding far below any grey level."""
    a, b = a.double(), b.double()
    squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)[None, :] - 2 * a @ b.T
    return squares.clamp_min(0).sqrt()
