"""Splits: disjoint, balanced, seeded; and the mistakes a user can make in sizes."""

import pytest
import torch

from benchmark.data.base import Source, Split, balanced_order
from benchmark.errors import ConfigError

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
ROLES = ("owner", "attacker", "public", "calibration")
SIZES = {"owner": 40, "attacker": 20, "public": 10, "calibration": 10, "test": 15}


class Numbered(Source):
    """Sample i is the constant i, so that splits show which samples they hold."""

    def pools(self, root):
        train = Split(torch.arange(100.0)[:, None], LABELS)
        return train, Split(torch.arange(100.0, 130.0)[:, None], torch.arange(30) % 3), 3


class Bytes(Source):
    def pools(self, root):
        x = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
        return Split(x, torch.zeros(4).long()), Split(x, torch.zeros(4).long()), 1


def members(split: Split) -> set[int]:
    return set(split.x.flatten().int().tolist())


def test_every_prefix_of_a_balanced_order_is_balanced():
    order = balanced_order(LABELS, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(100))
    for size in range(1, 101):
        counts = LABELS[order[:size]].bincount(minlength=3)
        assert (counts - size * torch.tensor([0.5, 0.3, 0.2])).abs().max() < 2


def test_roles_are_disjoint_and_of_the_size_asked_for():
    data = Numbered(sizes=SIZES).load(None, seed=0)
    held = [members(getattr(data, role)) for role in (*ROLES, "test")]
    assert [len(part) for part in held] == list(SIZES.values())
    assert len(set.union(*held)) == sum(SIZES.values())
    assert members(data.test) <= set(range(100, 130))


def test_a_seed_fixes_the_split_and_another_changes_it():
    first, again, other = (Numbered(sizes=SIZES).load(None, seed) for seed in (0, 0, 1))
    assert torch.equal(first.owner.x, again.owner.x) and first.digest == again.digest
    assert members(first.owner) != members(other.owner) and first.digest != other.digest


def test_roles_may_be_left_out_and_null_takes_the_whole_test_pool():
    data = Numbered(sizes={"owner": 5, "public": 0, "test": None}).load(None, 0)
    assert [len(getattr(data, role)) for role in (*ROLES, "test")] == [5, 0, 0, 0, 30]


def test_bytes_become_floats_in_the_unit_interval():
    data = Bytes(sizes={"owner": 4, "test": None}).load(None, 0)
    assert data.owner.x.dtype == torch.float32
    assert (data.owner.x.min().item(), data.owner.x.max().item()) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"owners": 3}, r"no role \['owners'\]"),
        ({"owner": -1}, "owner must be a whole number of at least 0 or null"),
        ({"owner": 90, "attacker": 20}, "asks for 110 training samples.*there are 100"),
        ({"owner": 1, "test": 31}, "asks for 31 test samples, but there are 30"),
    ],
)
def test_impossible_sizes_are_named(sizes, message):
    with pytest.raises(ConfigError, match=message):
        Numbered(sizes=sizes).load(None, 0)
