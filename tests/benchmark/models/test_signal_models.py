"""Models of signals, and those of scikit-learn behind a module's interface."""

from functools import partial

import pytest
import torch

from benchmark.errors import ConfigError
from benchmark.models.by_shape import network_for
from benchmark.models.conv1d import Conv1d
from benchmark.models.lstm import LSTM
from benchmark.models.shallow import KINDS, Shallow
from benchmark.training.loop import predict, train

SIGNALS = {
    "conv1d": partial(Conv1d, channels=[4, 6, 6], hidden=8, activation="relu"),
    "lstm": partial(LSTM, frame=8, hidden=8),
}


@pytest.mark.parametrize("shape", [(1, 240), (9, 128), (2, 13)])
@pytest.mark.parametrize("name", SIGNALS)
def test_logits_come_from_the_features_by_the_head(name, shape):
    model = SIGNALS[name](shape=shape, num_classes=3)
    x = torch.rand(5, *shape)
    assert torch.allclose(model(x), model.head(model.features(x)), atol=1e-6) and model(x).shape == (5, 3)


@pytest.mark.parametrize("name", SIGNALS)
def test_images_are_refused(name):
    with pytest.raises(ConfigError, match="needs signals"):
        SIGNALS[name](shape=(1, 8, 8), num_classes=3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 48), (5,)])
def test_there_is_a_network_for_every_shape(shape):
    assert network_for(shape, 3, 0.5)(torch.rand(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_shallow_models_learn_and_live_in_their_state(kind, soft):
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.randn((60, 1, 4), generator=rng) + 5 * y.view(-1, 1, 1)
    labels = torch.nn.functional.one_hot(y, 4).float() if soft else y
    build = partial(Shallow, shape=(1, 4), num_classes=4, kind=kind, trees=10, neighbours=3)
    model = train(build(), x, labels, epochs=1, rng=rng)
    assert (predict(model, x).argmax(dim=1) == y).double().mean() > 0.95
    other = build()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_is_always_the_answer(kind):
    rng = torch.Generator().manual_seed(0)
    model = Shallow(shape=(4,), num_classes=3, kind=kind, trees=5, neighbours=3)
    assert model(torch.rand(2, 4)).shape == (2, 3)
    train(model, torch.rand(6, 4), torch.ones(6, dtype=torch.int64), epochs=1, rng=rng)
    assert (model(torch.rand(5, 4)).argmax(dim=1) == 1).all()
