"""Networks from elsewhere: taken apart without a change of their logits, adapted, filled with weights, or refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.errors import ConfigError, DataMissing
from benchmark.models.chance import without_chance
from benchmark.models.library_networks import Hardsigmoid, Hardswish, TimmNet, TorchvisionNet
from benchmark.models.whole_networks import Factory
from benchmark.training.functional import Net

SHAPE = (1, 8, 8)
NET = "shufflenet_v2_x0_5"  # the smallest of torchvision


def make(*, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 5), nn.Tanh(), nn.Linear(5, num_classes))


def ends_in(*last: nn.Module):
    """Return a function that makes a network with these last layers."""
    return lambda *, shape, num_classes: nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 5), *last)


class Reused(nn.Module):
    """Network whose last layer is linear but does not give the logits as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)).square()


def test_a_function_gives_body_and_head_with_the_same_logits():
    torch.manual_seed(0)
    model = Factory(shape=SHAPE, num_classes=7, function=make)
    torch.manual_seed(0)
    plain, x = make(shape=SHAPE, num_classes=7), torch.rand(3, *SHAPE)
    torch.testing.assert_close(model(x), plain(x))
    torch.testing.assert_close(model.features(x), plain[:3](x))
    assert [tuple(p.shape) for p in model.parameters()][-2:] == [(7, 5), (7,)] and model.training


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda *, shape, num_classes: 3, "must return a torch.nn.Module, it returned a int"),
        (lambda shape: make(shape=shape, num_classes=7), "must take shape= and num_classes="),
        (ends_in(nn.Linear(5, 4)), r"must return logits \(n, 7\); of 2 samples it returned \(2, 4\)"),
        (ends_in(nn.Linear(4, 7)), r"cannot take samples of shape \(1, 8, 8\)"),
        (ends_in(nn.Linear(5, 7, bias=False)), r"do not come from a last nn.Linear\(features, 7\) with a bias"),
        (ends_in(nn.Linear(5, 7), nn.LogSoftmax(dim=1)), "do not come from a last"),
        (lambda *, shape, num_classes: Reused(), "do not come from a last"),
        (lambda *, shape, num_classes: make(shape=shape, num_classes=7).requires_grad_(False), "has no gradients"),
    ],
)
def test_what_the_suite_cannot_use_is_told_in_a_sentence(function, told):
    with pytest.raises(ConfigError, match=told):
        Factory(shape=SHAPE, num_classes=7, call="mine:make", function=function)


def test_a_network_of_torchvision_takes_one_channel_and_learns_through_updates():
    torch.manual_seed(0)
    net = Net(without_chance(TorchvisionNet(shape=SHAPE, num_classes=7, net=NET)))
    x, y, params = torch.rand(2, 2, *SHAPE), torch.randint(7, (2, 2)), net.initial()
    loop = torch.stack([net.gradient(params, a, b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(net.gradients(params, x, y), loop, atol=1e-4, rtol=1e-3)


def test_the_last_convolution_of_squeezenet_is_the_head():
    model = TorchvisionNet(shape=(1, 16, 16), num_classes=7, net="squeezenet1_1")
    x = torch.rand(2, 1, 16, 16)
    assert model.head.weight.shape == (7, 512)
    torch.testing.assert_close(model.eval()(x), model.head(model.features(x)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"net": "shufflenet_v2"}, "no classification network 'shufflenet_v2'; did you mean"),
        ({"net": "vgg11"}, r"model.net=vgg11 cannot take samples of shape \(1, 8, 8\).*model.pad=32"),
        ({"net": "vit_b_32"}, "vit_b_32 cannot take samples"),
    ],
)
def test_a_network_that_does_not_exist_or_fit_is_told(options, told):
    with torch.device("meta"), pytest.raises(ConfigError, match=told):  # without the memory of large networks
        TorchvisionNet(shape=SHAPE, num_classes=7, **options)


def test_a_margin_makes_small_images_large_enough():
    model = TorchvisionNet(shape=(1, 14, 13), num_classes=7, net="squeezenet1_1", pad=16)
    padded = model.body[0](torch.ones(1, 1, 14, 13))
    assert padded.shape == (1, 1, 16, 16) and padded.sum() == 14 * 13


def test_what_updates_cannot_carry_is_told():
    model = TorchvisionNet(shape=SHAPE, num_classes=7, net=NET, norm="own")
    with pytest.raises(ConfigError, match="running statistics"):
        Net(without_chance(model))
    model = TorchvisionNet(shape=(1, 16, 16), num_classes=7, net="squeezenet1_1", dropout=True)
    with pytest.raises(ConfigError, match="draws random numbers in training .*: Dropout"):
        without_chance(model)


def test_activations_without_a_second_derivative_are_written_out():
    x = torch.linspace(-5, 5, 1001)
    torch.testing.assert_close(Hardsigmoid()(x), nn.Hardsigmoid()(x))
    torch.testing.assert_close(Hardswish()(x), nn.Hardswish()(x))


@pytest.mark.crosscheck
def test_a_network_of_timm_takes_one_channel():
    pytest.importorskip("timm")
    model = TimmNet(shape=SHAPE, num_classes=7, net="resnet10t")
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(model.eval()(x), model.head(model.features(x)))
    with pytest.raises(ConfigError, match="timm has no network 'hf_hub:timm/resnet18'"):
        TimmNet(shape=SHAPE, num_classes=7, net="hf_hub:timm/resnet18")


def test_without_timm_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install -e .*timm"):
        TimmNet(shape=SHAPE, num_classes=7)


# -- weights ----------------------------------------------------------------------------------------------------------
def test_weights_are_those_of_the_network_or_of_the_classifier_made_of_it(tmp_path: Path):
    plain = make(shape=SHAPE, num_classes=7)
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    first = Factory(shape=SHAPE, num_classes=7, function=make, weights=str(tmp_path / "plain.safetensors"))
    save_file(first.state_dict(), tmp_path / "own.safetensors")
    second = Factory(shape=SHAPE, num_classes=7, function=make, weights=str(tmp_path / "own.safetensors"))
    x = torch.rand(3, *SHAPE)
    torch.testing.assert_close(first(x), plain(x))
    torch.testing.assert_close(second(x), plain(x))


def test_weights_that_do_not_fit_are_told(tmp_path: Path):
    file, state = tmp_path / "w.safetensors", make(shape=SHAPE, num_classes=7).state_dict()

    def refused(told: str, error: type[Exception] = DataMissing, **options: str) -> None:
        with pytest.raises(error, match=told):
            Factory(shape=SHAPE, num_classes=7, call="a:b", function=make, **{"weights": str(file), **options})

    refused("there is no such file")
    file.write_bytes(b"no tensors")
    refused("is no safetensors file")
    for changed, told in [
        ({"3.bias": torch.zeros(9)}, r"do not fit model.call=a:b: 3.bias is \(9,\), and \(7,\) is needed"),
        ({"3.bais": torch.zeros(7)}, "the network has no 3.bais; did you mean 3.bias"),
        ({"3.bias": torch.full((7,), math.nan)}, "not finite, in 3.bias"),
    ]:
        save_file({**state, **changed}, file)
        refused(told)
    save_file({name: tensor for name, tensor in state.items() if name != "3.bias"}, file)
    refused("they have no 3.bias")
    save_file(state, file)
    refused("not the file that model.content names", content="0" * 64)
