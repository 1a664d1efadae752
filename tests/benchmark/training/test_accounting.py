import math

import pytest

from benchmark.errors import ConfigError
from benchmark.training.accounting import gaussian_epsilon, gaussian_noise, sampled_gaussian_epsilon

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


def exact_gaussian_epsilon(sensitivities: float, delta: float) -> float:
    """Balle and Wang, ICML 2018, theorem 8, for a total of ``sensitivities`` (L2) over the noise: no bound is lower."""

    def normal(z: float) -> float:
        return math.erfc(-z / math.sqrt(2)) / 2

    low, high = 0.0, 500.0
    for _ in range(200):
        middle = (low + high) / 2
        left, right = sensitivities / 2 - middle / sensitivities, -sensitivities / 2 - middle / sensitivities
        spent = normal(left) - (math.exp(middle + math.log(normal(right))) if normal(right) > 0 else 0.0)
        low, high = (middle, high) if spent > delta else (low, middle)
    return high


def renyi_gaussian_epsilon(sensitivities: float, delta: float) -> float:
    """Mironov 2017: order a costs a s^2 / 2; to epsilon by Canonne, Kamath, Steinke 2020, proposition 12."""
    costs = [
        order * sensitivities**2 / 2 + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        for order in (1 + step / 1000 for step in range(10, 20000))
    ]
    return min(costs)


@pytest.mark.parametrize("batch_size", [69, 70])
def test_sampling_never_costs_more_than_no_sampling(batch_size):
    run = dict(noise_multiplier=1.0, samples=70, batch_size=batch_size, steps=40, delta=1e-3)
    whole = math.sqrt(40) / (1.0 / 2)  # 40 steps, each of 2 C over a noise of C
    got = epsilon(**run)
    assert got == pytest.approx(renyi_gaussian_epsilon(whole, 1e-3), rel=1e-3) == pytest.approx(124.685, rel=1e-3)
    assert exact_gaussian_epsilon(whole, 1e-3) <= got


@pytest.mark.slow
def test_every_batch_size_is_bounded_by_the_whole_set_and_small_ones_gain():
    spent = [epsilon(noise_multiplier=1.0, samples=70, batch_size=size, steps=40) for size in range(1, 71)]
    whole = gaussian_epsilon(noise_multiplier=0.5, steps=40, delta=1e-3)
    assert spent == sorted(spent) and spent[-1] == whole and spent[0] < whole / 10


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("steps", [1, 40])
def test_the_noise_for_an_epsilon_spends_it_by_another_accountant(epsilon, steps):
    sigma = gaussian_noise(epsilon=epsilon, steps=steps, delta=1e-5)
    sensitivities = math.sqrt(steps) / sigma
    assert gaussian_epsilon(noise_multiplier=sigma, steps=steps, delta=1e-5) <= epsilon
    assert renyi_gaussian_epsilon(sensitivities, 1e-5) == pytest.approx(epsilon, rel=0.01)
    assert exact_gaussian_epsilon(sensitivities, 1e-5) < epsilon
