from __future__ import annotations

import pytest
import torch

from benchmark.defenses.collaboration.aggregation.centered_clipping import CenteredClipping
from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.defenses.collaboration.clients.tolerant_training import TolerantTraining, perturbed_parameters
from benchmark.defenses.collaboration.clients.worker_momentum import WorkerMomentum
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import LocalStep, Round
from benchmark.settings.stack import Stack
from benchmark.training.functional import Layout, Net
from benchmark.training.tolerance import AMOUNTS, tolerance_curve
from tests.benchmark.helpers import TinyMLP, TinyNet, digits_like


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


# -- Momentum of the parties: its recursion, its memory by party, and its use to clipping around the last aggregate
LAYOUT = Layout(("w",), ((40,),))


def turn(index: int, parties: list[int]) -> Round:
    return Round(index, LAYOUT, torch.zeros(40), torch.tensor(parties), generator(0, f"round.{index}"))


def test_an_upload_is_the_running_average_of_a_partys_own_updates():
    defense, rng = WorkerMomentum(beta=0.8), generator(0, "momentum")
    defense.start(3, LAYOUT)
    expected: dict[int, torch.Tensor] = {}
    for index, parties in enumerate([[0, 1], [1, 2], [0, 2], [0, 1]]):
        updates = torch.randn(2, 40, generator=rng)
        sent = defense.protect(updates, turn(index, parties))
        for row, party in enumerate(parties):
            before = expected.get(party, updates[row])  # the first upload is the first update
            expected[party] = 0.8 * before + 0.2 * updates[row]
            torch.testing.assert_close(sent[row], expected[party])
    defense.start(3, LAYOUT)
    assert torch.equal(defense.protect(updates, turn(0, [0, 1])), updates)


@pytest.mark.parametrize("seed", range(3))
def test_clipping_of_momenta_ends_nearer_to_the_truth_than_clipping_of_noisy_updates(seed):
    truth = torch.ones(40) / 40**0.5
    errors = {}
    for beta in (0.0, 0.9):
        stack, rng = (
            Stack([WorkerMomentum(beta=beta), CenteredClipping(radius=1.0, iterations=1)]),
            generator(seed, "sgd"),
        )
        stack.start(10, LAYOUT)
        for index in range(60):
            now = turn(index, list(range(10)))
            honest = stack.protect(truth + 2 * torch.randn(10, 40, generator=rng), now)
            spread = honest[:8].std(dim=0)
            honest[8:] = honest[:8].mean(dim=0) - 1.5 * spread  # a little is enough
            found = stack.aggregate(honest, now)
        errors[beta] = float((found - truth).norm())
    assert errors[0.9] < 0.7 * errors[0.0]


# -- tolerant_training
def noisy_step() -> LocalStep:
    torch.manual_seed(0)
    net, data = Net(TinyMLP()), digits_like(40)
    return LocalStep(net, net.initial(), data.x, data.y, generator(0, "step"))


def test_without_noise_it_is_the_plain_gradient():
    mine = noisy_step()
    assert torch.equal(TolerantTraining(amount=0.0).local_step(mine), mine.gradient())


def test_weights_move_by_the_asked_share_of_their_own_size_in_every_tensor():
    mine = noisy_step()
    noise = perturbed_parameters(mine, 0.3) - mine.params
    for part in mine.net.layout.slices().values():
        if part.stop - part.start > 500:
            ratio = noise[part].square().mean().sqrt() / mine.params[part].square().mean().sqrt()
            assert ratio == pytest.approx(0.3, rel=0.1)
    assert not torch.equal(TolerantTraining(amount=0.3).local_step(mine), mine.gradient())


def test_a_negative_amount_is_refused():
    with pytest.raises(ConfigError, match="at least 0"):
        TolerantTraining(amount=-1.0)


def test_the_tolerance_curve_falls_from_the_models_own_accuracy():
    mine = noisy_step()
    params = mine.params
    for _ in range(80):
        params = params - 0.5 * mine.net.gradient(params, mine.x, mine.y)
    curve = tolerance_curve(mine.net, params, mine.x, mine.y, generator(0, "curve"))
    assert len(curve) == len(AMOUNTS)
    assert curve[0] > 0.95 and curve[0] > curve[-1]
