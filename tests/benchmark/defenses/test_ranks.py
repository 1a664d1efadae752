"""Ranks by a sorting network, against sorting."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from benchmark.defenses.collaboration.aggregation.ranks import (
    BLOCK_SIZE,
    map_blocks,
    mean_of_ranks,
    median,
    sorting_network,
    values_of_ranks,
)
from benchmark.seeds import generator


@pytest.mark.parametrize("n", range(1, 11))
def test_any_ranks_of_all_zero_one_inputs_are_right(n: int) -> None:
    """By the zero-one principle a network that does so is right for all values."""
    columns = torch.tensor(list(product([0.0, 1.0], repeat=n))).T
    expected = columns.sort(dim=0).values
    for first in range(n):
        for last in range(first + 1, n + 1):
            found = torch.stack(values_of_ranks(list(columns), first, last, ordered=True))
            assert torch.equal(found, expected[first:last])
            unordered = torch.stack(values_of_ranks(list(columns), first, last, ordered=False))
            assert torch.equal(unordered.sort(dim=0).values, expected[first:last])


@pytest.mark.parametrize("n", [11, 32, 50, 77])
def test_ranks_of_random_values(n: int) -> None:
    rows = torch.randn(n, 300, generator=generator(n, "rows"))
    expected = rows.sort(dim=0).values
    assert torch.equal(torch.stack(values_of_ranks(list(rows), 0, n, ordered=True)), expected)
    torch.testing.assert_close(mean_of_ranks(rows, n // 4, n - n // 4), expected[n // 4 : n - n // 4].mean(dim=0))
    torch.testing.assert_close(median(rows), rows.quantile(0.5, dim=0))


def test_fewer_comparisons_are_made_where_less_is_asked_for() -> None:
    sorting, inner, anyhow = (
        len(sorting_network(50, *ranks)) for ranks in ((0, 50, True), (10, 40, True), (10, 40, False))
    )
    assert anyhow < inner < sorting
    assert sorting_network(50, 0, 50, False) == ()


def test_blocks_of_coordinates_are_put_together_in_order() -> None:
    rows = torch.arange(2.0 * BLOCK_SIZE + 3).repeat(3, 1)
    assert torch.equal(map_blocks(rows, lambda block: block[1]), rows[0])


def test_what_is_no_number_counts_as_the_largest() -> None:
    rows = torch.tensor([[float("nan"), -torch.inf], [1.0, 5.0], [2.0, torch.inf]])
    assert median(rows).tolist() == [2.0, 5.0]
