import pytest
import torch

from benchmark.defenses.collaboration.clients.tolerant_training import TolerantTraining, perturbed_parameters
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import LocalStep
from benchmark.training.functional import Net
from benchmark.training.tolerance import AMOUNTS, tolerance_curve
from tests.benchmark.helpers import TinyMLP, digits_like


def step() -> LocalStep:
    torch.manual_seed(0)
    net, data = Net(TinyMLP()), digits_like(40)
    return LocalStep(net, net.initial(), data.x, data.y, generator(0, "step"))


def test_without_noise_it_is_the_plain_gradient():
    mine = step()
    assert torch.equal(TolerantTraining(amount=0.0).local_step(mine), mine.gradient())


def test_weights_move_by_the_asked_share_of_their_own_size_in_every_tensor():
    mine = step()
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
    mine = step()
    params = mine.params
    for _ in range(80):
        params = params - 0.5 * mine.net.gradient(params, mine.x, mine.y)
    curve = tolerance_curve(mine.net, params, mine.x, mine.y, generator(0, "curve"))
    assert len(curve) == len(AMOUNTS)
    assert curve[0] > 0.95 and curve[0] > curve[-1]
