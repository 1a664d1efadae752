import random

import numpy as np
import torch

from benchmark.seeds import derive, generator, isolated


def test_same_purpose_same_stream_and_other_purpose_another():
    first, again, other = (torch.rand(5, generator=generator(0, p)) for p in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert derive(0, "a") != derive(1, "a")


def test_isolated_draws_are_repeatable_and_leave_global_state_alone():
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with isolated(3, "x"):
        inside = torch.rand(3), random.random(), np.random.rand()
    with isolated(3, "x"):
        again = torch.rand(3), random.random(), np.random.rand()
    assert torch.equal(inside[0], again[0])
    assert inside[1:] == again[1:]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()
