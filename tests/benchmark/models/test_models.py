"""Every architecture on every image size: shapes, order of parameters, gradients, errors."""

from functools import partial

import pytest
import torch
from torch import nn

from benchmark.errors import ConfigError
from benchmark.models.base import ACTIVATIONS, activation
from benchmark.models.convnet import ConvNet
from benchmark.models.lenet import LeNet
from benchmark.models.mlp import MLP
from benchmark.models.papernot_cnn import PapernotCNN
from benchmark.models.resnet18 import ResNet18
from benchmark.models.wide_resnet import WideResNet28
from benchmark.training.functional import Net

ARCHITECTURES = {
    "mlp": partial(MLP, hidden=[16, 12], activation="relu"),
    "lenet": partial(LeNet, activation="tanh", init="default", strides=None),
    "lenet_sigmoid": partial(LeNet, activation="sigmoid", init="uniform", strides=[2, 2, 1]),
    "convnet": partial(ConvNet, channels=[4, 6], hidden=10, activation="relu"),
    "resnet18": partial(ResNet18, norm="group", stem="small"),
    "resnet18_imagenet": partial(ResNet18, norm="group", stem="imagenet"),
}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 9, 13)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_come_from_the_features_by_the_last_two_parameters(name, shape):
    model = ARCHITECTURES[name](shape=shape, num_classes=7).eval()
    x = torch.rand(2, *shape)
    logits, features = model(x), model.features(x)
    weight, bias = list(model.parameters())[-2:]
    assert logits.shape == (2, 7) and features.ndim == 2
    assert torch.allclose(logits, features @ weight.T + bias, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_first_parameters_belong_to_the_declared_first_layer(name):
    model = ARCHITECTURES[name](shape=(1, 8, 8), num_classes=10)
    kinds = {"linear": nn.Linear, "conv": nn.Conv2d}
    first = next(module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    assert isinstance(first, kinds[model.first_layer])
    assert next(model.parameters()) is first.weight


@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet", "resnet18"])
def test_vectorised_gradients_equal_a_loop(name):
    torch.manual_seed(0)
    net = Net(ARCHITECTURES[name](shape=(1, 8, 8), num_classes=10))
    x, y, params = torch.rand(2, 3, 1, 8, 8), torch.randint(10, (2, 3)), net.initial()
    loop = torch.stack([net.gradient(params, a, b) for a, b in zip(x, y, strict=True)])
    assert torch.allclose(net.gradients(params, x, y), loop, atol=1e-4)


def test_the_papers_lenet_has_its_size():
    model = ARCHITECTURES["lenet_sigmoid"](shape=(3, 32, 32), num_classes=100)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim > 1] == [
        (12, 3, 5, 5),
        (12, 12, 5, 5),
        (12, 12, 5, 5),
        (100, 768),
    ]


def test_lenet_chooses_strides_that_leave_small_images_more_features_than_pixels():
    features = {
        side: ARCHITECTURES["lenet"](shape=(1, side, side), num_classes=10).head.in_features for side in (8, 28)
    }
    assert features[8] == 12 * 4 * 4 > 64
    assert features[28] < 28 * 28, "the more features, the smaller the learning rate that plain SGD survives"


def test_uniform_initialisation_spans_half_a_unit():
    flat = torch.cat(
        [p.flatten() for p in ARCHITECTURES["lenet_sigmoid"](shape=(1, 28, 28), num_classes=10).parameters()]
    )
    assert flat.abs().max() <= 0.5
    assert flat.std().item() == pytest.approx(1 / 12**0.5, abs=0.01)


def test_mlp_takes_tables():
    model = MLP(shape=(13,), num_classes=2, hidden=[4], activation="tanh")
    assert model(torch.randn(5, 13)).shape == (5, 2)


def test_a_linear_model_is_an_mlp_without_hidden_layers():
    model = MLP(shape=(1, 8, 8), num_classes=10, hidden=[], activation="relu")
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(model.features(x), x.flatten(1))


def test_convolutions_refuse_tables():
    for name in ("lenet", "convnet", "resnet18"):
        with pytest.raises(ConfigError, match=r"needs images.*model=mlp"):
            ARCHITECTURES[name](shape=(13,), num_classes=2)


def test_convnet_refuses_more_pooling_than_pixels():
    with pytest.raises(ConfigError, match="leave nothing of 8x8 pixels"):
        ConvNet(shape=(1, 8, 8), num_classes=10, channels=[4, 4, 4, 4], hidden=8, activation="relu")


def test_batch_normalisation_is_there_but_not_for_updates():
    model = ResNet18(shape=(1, 8, 8), num_classes=10, norm="batch", stem="small")
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    with pytest.raises(ConfigError, match="norm: group"):
        Net(model)


def test_group_normalised_resnet_keeps_no_running_statistics():
    assert not list(ARCHITECTURES["resnet18"](shape=(1, 8, 8), num_classes=10).buffers())


def test_activations_are_looked_up_by_name():
    for name, kind in ACTIVATIONS.items():
        assert isinstance(activation(name), kind)
    with pytest.raises(
        ConfigError, match=r"one of \['relu', 'tanh', 'sigmoid'\], got 'sigmoyd'. Did you mean 'sigmoid'"
    ):
        activation("sigmoyd")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(LeNet, activation="tanh", init="normal", strides=[1]), "model.init must be one of"),
        (partial(ResNet18, norm="layer", stem="small"), "norm must be group or batch"),
        (partial(ResNet18, norm="group", stem="tiny"), "stem must be small or imagenet"),
    ],
)
def test_unknown_options_are_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build(shape=(1, 8, 8), num_classes=10)


@pytest.mark.parametrize(("shape", "padding"), [((1, 8, 8), 1), ((1, 28, 28), 0), ((3, 32, 32), 0), ((1, 9, 12), 1)])
def test_the_distillation_papers_network_takes_images_of_any_size(shape, padding):
    model = PapernotCNN(shape=shape, num_classes=7, width=4, hidden=8, padding=padding, dropout=0.5)
    assert model(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(("shape", "width"), [((1, 8, 8), 1), ((3, 32, 32), 1)])
def test_the_wide_residual_network_takes_images_of_any_size(shape, width):
    model = WideResNet28(shape=shape, num_classes=7, width=width).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 7)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(0.37e6, rel=0.03)


def test_the_distillation_papers_network_refuses_images_that_vanish():
    with pytest.raises(ConfigError, match="padding=0; use 1"):
        PapernotCNN(shape=(1, 8, 8), num_classes=7, width=4, hidden=8, padding=0, dropout=0.5)
