import math

import pytest

from benchmark.errors import ConfigError
from benchmark.training.accounting import sampled_gaussian_epsilon

RUN = dict(noise_multiplier=2.0, samples=100, batch_size=10, steps=50, delta=1e-3)


def epsilon(**changes):
    return sampled_gaussian_epsilon(**(RUN | changes))


def test_epsilon_rises_with_steps_and_batch_and_falls_with_noise():
    assert epsilon(steps=200) > epsilon() > epsilon(noise_multiplier=4.0)
    assert epsilon(batch_size=20) > epsilon()


def test_one_full_batch_step_is_bounded_by_the_classical_gaussian_mechanism():
    # Replacing one record: sensitivity 2 C, so noise 20 C is 10 sensitivities; classical: sqrt(2 ln(1.25/delta)) / 10.
    got = epsilon(noise_multiplier=20.0, batch_size=100, steps=1)
    assert 0 < got <= math.sqrt(2 * math.log(1.25 / 1e-3)) / 10


def test_no_noise_is_no_privacy():
    assert epsilon(noise_multiplier=0.0) == math.inf


def test_a_batch_larger_than_the_share_is_refused():
    with pytest.raises(ConfigError, match="batch of 200 cannot be drawn"):
        epsilon(batch_size=200)
