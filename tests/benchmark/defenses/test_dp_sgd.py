import pytest
import torch

from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import LocalStep
from benchmark.training.functional import Net
from tests.benchmark.helpers import TinyNet, digits_like


@pytest.fixture
def step() -> LocalStep:
    torch.manual_seed(0)
    net, data = Net(TinyNet()), digits_like(6)
    return LocalStep(net, net.initial(), data.x, data.y, generator(0, "party"))


def test_without_noise_it_is_the_mean_of_clipped_gradients(step):
    slow = []
    for i in range(6):
        g = step.net.gradient(step.params, step.x[i : i + 1], step.y[i : i + 1])
        slow.append(g / max(1.0, g.norm().item() / 0.5))
    got = DPSGD(max_norm=0.5, noise_multiplier=0.0, delta=1e-3).local_step(step)
    torch.testing.assert_close(got, torch.stack(slow).mean(0), atol=1e-6, rtol=1e-4)


def test_noise_is_multiplier_times_bound_over_batch(step):
    quiet = DPSGD(max_norm=0.5, noise_multiplier=0.0, delta=1e-3).local_step(step)
    noisy = DPSGD(max_norm=0.5, noise_multiplier=2.0, delta=1e-3).local_step(step)
    assert (noisy - quiet).std().item() == pytest.approx(2.0 * 0.5 / 6, rel=0.1)


def test_one_record_moves_the_sum_by_at_most_twice_the_bound(step):
    private = DPSGD(max_norm=0.5, noise_multiplier=0.0, delta=1e-3)
    before = private.local_step(step) * 6
    step.x = step.x.clone()
    step.x[0] = 1 - step.x[0]
    step.y = step.y.roll(1)
    step.y[1:] = digits_like(6).y[1:]
    assert (private.local_step(step) * 6 - before).norm() <= 2 * 0.5 + 1e-5


def test_epsilon_comes_from_the_accountant_with_its_delta():
    epsilon, delta = DPSGD(max_norm=1.0, noise_multiplier=1.0, delta=1e-3).epsilon(samples=70, batch_size=16, steps=40)
    assert delta == 1e-3
    assert 1 < epsilon < 200
