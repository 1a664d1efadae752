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
from benchmark.defenses.collaboration.clients.batch_aggregation import BatchAggregation
from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.defenses.collaboration.clients.gradient_clipping import GradientClipping
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.collaboration.clients.gradient_pruning import GradientPruning
from benchmark.defenses.none import NoDefense
from benchmark.defenses.release.instahide import InstaHide
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.stack import Stack
from benchmark.training.functional import Layout
from tests.benchmark.helpers import PLAN, digits_like

LAYOUT = Layout(("w", "b"), ((10, 4), (10,)))


def turn(n: int = 3, seed: int = 0) -> Round:
    return Round(0, LAYOUT, torch.zeros(50), torch.arange(n), generator(seed, "round"))


def updates(n: int = 3) -> torch.Tensor:
    return torch.randn((n, 50), generator=torch.Generator().manual_seed(0))


def test_none_overrides_nothing_and_is_the_identity_bit_for_bit():
    none, data, u = NoDefense(), digits_like(5), updates()
    assert none.hooks() == frozenset()
    assert none.local_data(data, generator(0, "x")) is data
    assert none.local_plan(PLAN) is PLAN
    for hook in ("protect", "exchange"):
        assert getattr(none, hook)(u, turn()) is u
    assert none.encode(data.x) is data.x
    assert none.reveal(u) is u
    assert torch.equal(none.aggregate(u, turn()), u.mean(0))
    assert torch.equal(none.release(data, generator(0, "x")).x, data.x)


def test_hooks_are_what_a_class_overrides():
    assert GradientNoise.hooks() == {"protect"}
    assert DPSGD.hooks() == {"local_step"}
    assert InstaHide.hooks() == {"release", "encode", "local_data"}


def test_a_stack_runs_its_members_in_order():
    clip, noise = GradientClipping(max_norm=0.1), GradientNoise(std=5.0, distribution="gaussian")
    clipped_last = Stack([noise, clip]).protect(updates(), turn())
    noise_last = Stack([clip, noise]).protect(updates(), turn())
    assert clipped_last.norm(dim=1).max() <= 0.1 + 1e-6
    assert noise_last.norm(dim=1).min() > 5


def test_a_stack_of_one_kind_of_replacement_twice_is_refused():
    private = DPSGD(max_norm=1.0, noise_multiplier=1.0, delta=1e-3)
    with pytest.raises(ConfigError, match="DPSGD and DPSGD cannot be stacked.*'local_step'"):
        Stack([private, private])


def test_a_stack_publishes_and_accounts_for_its_members():
    private = DPSGD(max_norm=1.0, noise_multiplier=1.0, delta=1e-3)
    stack = Stack([private, GradientNoise(std=0.5, distribution="gaussian")])
    assert stack.facts() == {"clip_norm": 1.0, "noise_std": 0.5}
    run = dict(samples=70, batch_size=16, steps=10)
    assert stack.epsilon(**run) == private.epsilon(**run)
    assert Stack([GradientNoise(std=0.5, distribution="gaussian")]).epsilon(**run) is None
    assert stack.overrides("local_step") and stack.overrides("protect") and not stack.overrides("exchange")


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_noise_has_the_standard_deviation_it_says(distribution):
    zeros = torch.zeros(4, 50_000)
    noisy = GradientNoise(std=0.3, distribution=distribution).protect(zeros, turn(4))
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)
    assert noisy.mean().item() == pytest.approx(0, abs=0.005)


def test_clipping_bounds_the_norm_and_keeps_the_direction():
    u = updates()
    clipped = GradientClipping(max_norm=2.0).protect(u, turn())
    torch.testing.assert_close(clipped.norm(dim=1), torch.full((3,), 2.0))
    torch.testing.assert_close(clipped / 2.0, u / u.norm(dim=1, keepdim=True))
    small = u / 100
    assert torch.equal(GradientClipping(max_norm=2.0).protect(small, turn()), small)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9])
def test_pruning_keeps_the_largest_of_every_tensor_and_publishes_which(ratio):
    u, round_ = updates(), turn()
    pruned = GradientPruning(ratio=ratio).protect(u, round_)
    for part in LAYOUT.slices().values():
        size = part.stop - part.start
        kept = pruned[:, part] != 0
        assert (kept.sum(1) == size - int(ratio * size)).all()
        for row in range(3):
            smallest = u[row, part].abs()[kept[row]].min()
            assert (u[row, part].abs()[~kept[row]] <= smallest).all()
    assert torch.equal(round_.published.mask, pruned != 0)


def test_batch_aggregation_only_raises_the_plan():
    assert BatchAggregation(batch_size=8, local_steps=2).local_plan(PLAN).batch_size == 16
    assert BatchAggregation(batch_size=64, local_steps=2).local_plan(PLAN).local_steps == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GradientNoise(std=-1, distribution="gaussian"), "gradient_noise.std must be at least 0"),
        (lambda: GradientNoise(std=1, distribution="cauchy"), "distribution must be gaussian or laplace"),
        (lambda: GradientClipping(max_norm=0), "max_norm must be above 0"),
        (lambda: GradientPruning(ratio=1.0), r"ratio must be in \[0, 1\)"),
        (lambda: DPSGD(max_norm=1, noise_multiplier=-1, delta=1e-3), "noise_multiplier must be at least 0"),
        (lambda: BatchAggregation(batch_size=0, local_steps=1), "batch_size must be a whole number of at least 1"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


# -- Ranks by a sorting network, against sorting
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
