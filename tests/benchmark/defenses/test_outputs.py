import pytest
import torch
from torch import nn

from benchmark.data.base import Split
from benchmark.defenses.argmax_only import ArgmaxOnly
from benchmark.defenses.logit_spread import LogitSpread, spread
from benchmark.defenses.output_softmax import OutputSoftmax
from benchmark.errors import ConfigError


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
