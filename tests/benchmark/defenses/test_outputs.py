import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.defenses.service.argmax_only import ArgmaxOnly
from benchmark.defenses.service.logit_spread import LogitSpread, spread
from benchmark.defenses.service.output_noise import OutputNoise
from benchmark.defenses.service.output_rounding import OutputRounding
from benchmark.defenses.service.output_softmax import OutputSoftmax
from benchmark.defenses.service.output_top_k import OutputTopK
from benchmark.defenses.service.reconstruction_audit import ReconstructionAudit
from benchmark.defenses.service.stationarity import Stationarity
from benchmark.errors import ConfigError
from benchmark.training.loop import train
from tests.benchmark.helpers import TinyNet, digits_like


def test_the_label_alone_is_one_hot():
    revealed = ArgmaxOnly().reveal(torch.tensor([[0.1, 3.0, -1.0], [2.0, 1.0, 0.0]]))
    assert torch.equal(revealed, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))


def test_probabilities_drop_the_common_offset():
    logits = torch.randn(5, 4)
    defense = OutputSoftmax(temperature=1.0)
    assert torch.allclose(defense.reveal(logits), defense.reveal(logits + 3), atol=1e-6)
    assert torch.allclose(defense.reveal(logits).sum(dim=1), torch.ones(5))


def test_temperature_flattens():
    logits = torch.randn(5, 4)
    warm, plain = (OutputSoftmax(temperature=t).reveal(logits).amax(dim=1) for t in (10.0, 1.0))
    assert (warm < plain).all()


def test_the_temperature_is_positive():
    with pytest.raises(ConfigError, match=r"output_softmax\.temperature must be above 0"):
        OutputSoftmax(temperature=0.0)


def test_spread_is_the_ratio_of_scatters():
    logits = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    # Centred first coordinates: 1, 2, -1, -2; within 2 * 0.5, between 4 * 1.5^2 (each coordinate twice).
    assert spread(logits, torch.tensor([0, 0, 1, 1])) == pytest.approx(1.0 / 9.0)


def test_spread_ignores_a_common_offset_and_scale():
    logits, y = torch.randn(30, 5), torch.arange(30) % 3
    assert spread(logits * 7 + torch.randn(30, 1), y) == pytest.approx(spread(logits, y), rel=1e-3)


def test_the_detector_reads_the_models_own_logits():
    data = Split(torch.randn(40, 6), torch.arange(40) % 4)
    model = nn.Linear(6, 4)
    assert LogitSpread().screen_model(model, data) == pytest.approx(spread(model(data.x).detach(), data.y))


def test_the_top_outputs_are_told_relative_to_the_next_one():
    revealed = OutputTopK(k=2).reveal(torch.tensor([[5.0, 1.0, 3.0, -2.0]]))
    assert revealed.tolist() == [[4.0, 0.0, 2.0, 0.0]]
    assert torch.equal(OutputTopK(k=9).reveal(torch.tensor([[2.0, 3.0]])), torch.tensor([[0.0, 1.0]]))


def test_rounding_leaves_so_many_bits_after_the_point():
    logits = torch.tensor([[0.3, 1.26, -3.1]])
    assert OutputRounding(bits=2).reveal(logits).tolist() == [[0.25, 1.25, -3.0]]
    assert OutputRounding(bits=-1).reveal(logits).tolist() == [[0.0, 2.0, -4.0]]


def test_noise_has_the_spread_that_it_says():
    torch.manual_seed(0)
    noise = OutputNoise(std=2.0).reveal(torch.zeros(2000, 10))
    assert noise.std().item() == pytest.approx(2.0, rel=0.02)


@pytest.fixture(scope="module")
def trained():
    data = digits_like(120)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = train(TinyNet(), data.x, data.y, epochs=20, lr=3e-3, rng=torch.Generator().manual_seed(0))
    return model, data


@pytest.mark.parametrize("measure", ["gradient", "gain"])
def test_a_model_that_was_moved_after_training_is_more_suspicious(measure, trained):
    model, data = trained
    screen = Stationarity(measure=measure, steps=5, lr=1e-3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.layers[-1].weight += 0.2 * torch.randn(moved.layers[-1].weight.shape)
    assert 0 < screen.screen_model(model, data) < screen.screen_model(moved, data)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.ci
def test_an_audit_finds_the_image_in_outputs_that_hold_it():
    data = Digits(sizes={"calibration": 250}).load(None, seed=0).calibration
    audit = ReconstructionAudit(share=0.6, epochs=40, lr=5e-3, width=16, mse_weight=5.0, ssim_weight=1.0, ridge=1e-2)
    torch.manual_seed(0)

    class LabelOnly(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.one_hot(data.y, 10).float()[: len(x)]

    assert audit.screen_model(nn.Flatten(), data) > audit.screen_model(LabelOnly(), data) + 0.1
    with pytest.raises(ConfigError, match="sizes.calibration"):
        audit.screen_model(nn.Flatten(), data[:3])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: OutputTopK(k=0), "k must be a whole number of at least 1"),
        (lambda: OutputNoise(std=0.0), "std must be above 0"),
        (lambda: Stationarity(measure="loss", steps=1, lr=0.1), "measure must be gradient or gain"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
