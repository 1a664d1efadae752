"""Every architecture on every image size: shapes, order of parameters, gradients, errors."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.errors import ConfigError
from benchmark.models import shallow
from benchmark.models.any_shape import AnyShape
from benchmark.models.base import ACTIVATIONS, activation
from benchmark.models.by_shape import network_for
from benchmark.models.conv1d import Conv1d
from benchmark.models.convnet import ConvNet
from benchmark.models.convnet_bn import ConvNetBN
from benchmark.models.hitaj_cnn import HitajCNN
from benchmark.models.jebreel_cnn import JebreelCNN
from benchmark.models.jebreel_mlp import JebreelMLP
from benchmark.models.leaky_convnet import LeakyConvNet
from benchmark.models.lenet import LeNet
from benchmark.models.lstm import LSTM
from benchmark.models.mlp import MLP
from benchmark.models.papernot_cnn import PapernotCNN
from benchmark.models.resnet18 import ResNet18
from benchmark.models.shallow import KINDS, Shallow
from benchmark.models.standardised import CIFAR10, MNIST, Standardised
from benchmark.models.vgg16 import VGG16, Repeated
from benchmark.models.wide_resnet import WideResNet28
from benchmark.seeds import generator, isolated
from benchmark.training.functional import Net
from benchmark.training.loop import predict, train

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


# -- hitaj_cnn
def test_it_has_the_size_that_the_papers_give():
    assert sum(p.numel() for p in HitajCNN(shape=(1, 32, 32), num_classes=10).parameters()) == 105_506


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_images_up_to_its_size_get_a_border(shape):
    model = HitajCNN(shape=shape, num_classes=11)
    assert model(torch.rand(2, *shape)).shape == (2, 11)
    assert model.features(torch.rand(2, *shape)).shape == (2, 200)


def test_larger_images_are_refused():
    with pytest.raises(ConfigError, match="at most 32x32"):
        HitajCNN(shape=(1, 64, 64), num_classes=41)


# -- convnet_bn
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_logits_are_a_linear_map_of_the_features(shape):
    model = ConvNetBN(shape=shape, num_classes=7, channels=[4, 6, 6]).eval()
    x = torch.rand(2, *shape)
    assert torch.allclose(model(x), model.head(model.features(x)))
    assert model.features(x).shape == (2, 24)


def test_running_statistics_are_refused_where_updates_cannot_carry_them():
    with pytest.raises(ConfigError, match="running statistics"):
        Net(ConvNetBN(shape=(1, 8, 8), num_classes=10, channels=[4, 6]))


def test_tables_are_refused():
    with pytest.raises(ConfigError, match="use model=mlp"):
        ConvNetBN(shape=(5,), num_classes=2, channels=[4, 6])


# -- leaky_convnet
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (1, 28, 28)])
def test_it_gives_logits_for_images_of_any_size(shape):
    model = LeakyConvNet(shape=shape, num_classes=11, channels=[4, 8, 8], stem=1, hidden=16)
    assert model(torch.rand(2, *shape)).shape == (2, 11)
    assert model.features(torch.rand(2, *shape)).shape == (2, 16)


def test_it_has_the_size_of_the_small_protocol():
    model = LeakyConvNet(shape=(1, 8, 8), num_classes=11, channels=[16, 32], stem=1, hidden=64)
    assert sum(p.numel() for p in model.parameters()) == 160 + 4640 + (512 * 64 + 64) + (64 * 11 + 11)


def test_inputs_are_centred_and_every_pixel_gets_a_gradient():
    model = LeakyConvNet(shape=(1, 8, 8), num_classes=3, channels=[4, 4], stem=1, hidden=8)
    assert model.body[0](torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    model(x).square().sum().backward()
    assert (x.grad != 0).all()


def test_tables_are_refused_of_leaky_convnet():
    with pytest.raises(ConfigError, match="use model=mlp"):
        LeakyConvNet(shape=(5,), num_classes=2, channels=[4], stem=1, hidden=4)


# -- Models of signals, and those of scikit-learn behind a module's interface
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


def test_a_forest_is_fitted_once_for_the_same_training_and_anew_for_another():
    y = torch.arange(60) % 3
    x = torch.randn(60, 4) + 5 * y.view(-1, 1)

    def answers(x: torch.Tensor, seed: int, trees: int = 10) -> tuple[Any, torch.Tensor]:
        model = Shallow(shape=(4,), num_classes=3, trees=trees)
        train(model, x, y, epochs=1, rng=torch.Generator().manual_seed(seed))
        logits = model(x)
        return model.estimator, logits

    (first, logits), (again, same) = answers(x, 0), answers(x.clone(), 0)
    others = [answers(x + 1, 0), answers(x, 1), answers(x, 0, trees=5)]
    assert first is again and torch.equal(logits, same)
    assert len({id(first), *(id(other) for other, _ in others)}) == 4
    for seed in range(20):
        answers(x, seed)
    assert len(shallow._fitted) == shallow.KEPT


# -- Networks of fragmented federated learning: their sizes, their fixed standardisation, and images that they refuse
def test_the_mnist_network_has_the_papers_parameters() -> None:
    model = JebreelCNN(shape=(1, 28, 28), num_classes=10)
    # 5*5*10 + 10, 5*5*10*20 + 20, 320*50 + 50, 50*10 + 10
    assert sum(p.numel() for p in model.parameters()) == 260 + 5020 + 16050 + 510


def test_the_network_for_tables_has_the_papers_parameters_and_bar() -> None:
    model = JebreelMLP(shape=(10,), num_classes=2)
    assert sum(p.numel() for p in model.parameters()) == 640 + 64 + 4096 + 64 + 64 + 1 + 2 * 2 * 64
    assert sum(b.numel() for name, b in model.named_buffers() if "running" in name) == 256
    x = torch.randn(50, 10)
    logits = model.eval()(x)
    raw = nn.functional.linear(model.features(x), model.head.weight, model.head.bias)[:, 0]
    assert torch.equal(logits.argmax(dim=1), (raw > 0.5).long())  # their rule of use
    y = torch.arange(50) % 2
    model.train()
    torch.manual_seed(0)
    found = nn.functional.cross_entropy(model(x), y)
    torch.manual_seed(0)
    theirs = nn.functional.binary_cross_entropy_with_logits(model(x)[:, 1], y.float())
    torch.testing.assert_close(found, theirs)  # their loss
    with pytest.raises(ConfigError, match="tells two classes apart, and here are 3"):
        JebreelMLP(shape=(10,), num_classes=3)


@pytest.mark.ci
def test_vgg16_has_torchvisions_parameters_and_logits():
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.vgg16()
    theirs.classifier = torch.nn.Linear(25088, 10)
    ours = VGG16(shape=(3, 32, 32), num_classes=10)
    shapes = [tuple(p.shape) for p in theirs.parameters()]
    assert [tuple(p.shape) for p in ours.parameters()] == shapes
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine.data.copy_(other)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs(Standardised(*CIFAR10, 3)(x)), atol=1e-5, rtol=1e-4)


def test_wide_resnets_may_standardise_by_fixed_numbers():
    fixed = WideResNet28(shape=(3, 8, 8), means=CIFAR10[0], deviations=CIFAR10[1]).eval()
    batch = WideResNet28(shape=(3, 8, 8)).eval()
    batch.load_state_dict(fixed.state_dict(), strict=False)
    x = torch.rand(4, 3, 8, 8)
    batch.body[0].running_mean = torch.tensor(CIFAR10[0])
    batch.body[0].running_var = torch.tensor(CIFAR10[1]).square() - batch.body[0].eps
    torch.testing.assert_close(fixed(x), batch(x), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match="go together"):
        WideResNet28(shape=(3, 8, 8), means=CIFAR10[0])


def test_small_maps_are_repeated_and_large_ones_averaged():
    one = torch.rand(2, 4, 1, 1)
    assert torch.equal(Repeated()(one), torch.nn.functional.adaptive_avg_pool2d(one, 7))
    assert Repeated()(torch.rand(2, 4, 14, 14)).shape == (2, 4, 7, 7)


def test_standardisation_by_channel():
    x = torch.rand(5, 3, 4, 4)
    expected = torch.stack([(x[:, c] - CIFAR10[0][c]) / CIFAR10[1][c] for c in range(3)], dim=1)
    torch.testing.assert_close(Standardised(*CIFAR10, 3)(x), expected)
    torch.testing.assert_close(Standardised(*MNIST, 3)(x), (x - 0.1307) / 0.3081)
    with pytest.raises(ConfigError, match="standardises 3 channels, but the images have 1"):
        Standardised(*CIFAR10, 1)


@pytest.mark.parametrize(("model", "shape"), [(JebreelCNN, (1, 8, 8)), (VGG16, (3, 28, 28))])
def test_images_too_small_are_refused(model, shape):
    with pytest.raises(ConfigError, match="pixels are too few"):
        model(shape=shape, num_classes=10)


def test_the_default_network_learns_a_signal_that_hardly_varies_in_few_steps() -> None:
    rng = generator(0, "test")
    y = torch.arange(120) % 2
    x = 0.5 + 0.02 * (y[:, None, None] - 0.5) + 0.03 * torch.randn(120, 3, 64, generator=rng)
    with isolated(0, "test"):
        model = AnyShape(shape=(3, 64), num_classes=2)
    steps = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(40):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        steps.step()
    assert (model(x).argmax(dim=1) == y).float().mean() > 0.95
