"""The embedded digits."""

import torch

from benchmark.data.digits import Digits

SIZES = {"owner": 700, "attacker": 300, "public": 100, "calibration": 200, "test": 497}


def test_pools_are_fixed_balanced_and_complete():
    train, test, classes = Digits(sizes=SIZES).pools(None)
    assert (len(train), len(test), classes) == (1300, 497, 10)
    assert train.x.shape[1:] == (1, 8, 8) and train.x.dtype == torch.float32
    assert (train.x.min().item(), train.x.max().item()) == (0.0, 1.0)
    # The rarest of the ten classes has 174 of 1,797 samples, the most frequent 183.
    assert all(125 <= count <= 133 for count in train.y.bincount())


def test_the_seed_moves_roles_but_not_the_test_pool():
    one, two = (Digits(sizes=SIZES).load(None, seed) for seed in (0, 1))
    assert not torch.equal(one.owner.x, two.owner.x)

    def rows(x):
        return sorted(map(tuple, x.flatten(1).tolist()))

    assert rows(one.test.x) == rows(two.test.x)
    assert one.shape == (1, 8, 8) and one.name == "digits"
    # 1,300 samples are all used: every class has its share of every role.
    assert (one.owner.y.bincount(minlength=10) >= 65).all() and (one.public.y.bincount(minlength=10) >= 8).all()
