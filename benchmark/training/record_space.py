"""Space of the records of a table, and the projection of a network's raw output onto it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split

GRID = 256
"""Most distinct values of a numeric column that counts as discrete (ages, counts)."""


@dataclass(frozen=True)
class RecordSpace:
    """Space of records, learned from private training records; outputs off its grid would reveal who was mapped.

    Attributes:
        blocks: column ranges [start, end) that are one-hot in every training record.
        grids: column -> its distinct training values, sorted, for discrete columns.
    """

    blocks: tuple[tuple[int, int], ...]
    grids: dict[int, Tensor]

    @classmethod
    def of(cls, x: Tensor) -> RecordSpace:
        """Return the space of records (n, d)."""
        blocks = one_hot_blocks(x)
        categorical = {column for start, end in blocks for column in range(start, end)}
        grids = {}
        for column in set(range(x.shape[1])) - categorical:
            values = x[:, column].unique()
            if len(values) <= GRID:
                grids[column] = values
        return cls(blocks, grids)

    def decode(self, raw: Tensor) -> Tensor:
        """Return raw records (n, d) with each block made one-hot and numbers clipped and rounded to their grid."""
        x = raw.clamp(0, 1)
        for start, end in self.blocks:
            x[:, start:end] = F.one_hot(raw[:, start:end].argmax(dim=1), end - start).to(x)
        for column in self.grids:
            x[:, column] = self.snap(x[:, column], column)
        return x

    def snap(self, values: Float[Tensor, " n"], column: int) -> Float[Tensor, " n"]:
        """Return ``values`` of ``column`` rounded to its grid, or as they are where the column is not discrete."""
        grid = self.grids.get(column)
        if grid is None:
            return values
        return grid[(values.unsqueeze(1) - grid).abs().argmin(dim=1)]


def one_hot_blocks(x: Tensor) -> tuple[tuple[int, int], ...]:
    """Return the shortest runs of at least two adjacent 0/1 columns that sum to one in every record (n, d)."""
    binary = ((x == 0) | (x == 1)).all(dim=0).tolist()
    blocks, start = [], 0
    while start < x.shape[1]:
        end = _end_of_block(x, binary, start)
        if end is None:
            start += 1
        else:
            blocks.append((start, end))
            start = end
    return tuple(blocks)


def _end_of_block(x: Tensor, binary: list[bool], start: int) -> int | None:
    total = torch.zeros(len(x), device=x.device)
    for column in range(start, x.shape[1]):
        if not binary[column]:
            return None
        total = total + x[:, column]
        if (total > 1).any():
            return None
        if column > start and (total == 1).all():
            return column + 1
    return None


def with_decision(people: Split, num_classes: int) -> Float[Tensor, "n columns"]:
    """Return features and one-hot decision of each record, (n, d + classes): a map may change both."""
    return torch.cat([people.x.flatten(1), F.one_hot(people.y, num_classes).to(people.x)], dim=1)
