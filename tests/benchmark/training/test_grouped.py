"""Gradients of groups of samples by products of signals and inputs, against the gradient of each group alone."""

import pytest
import torch
from torch import nn

from benchmark.models.convnet import ConvNet
from benchmark.models.lenet import LeNet
from benchmark.models.mlp import MLP
from benchmark.training.functional import Net
from benchmark.training.grouped import grouped_gradients, is_layered

GROUPS, SIZE = 4, 3


class Dilated(nn.Sequential):
    """A convolution of uneven stride, padding and dilation, without a bias."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(3 * 4 * 10, 10, bias=False),
        )


NETS = {
    "lenet": (lambda: LeNet(shape=(3, 16, 16), num_classes=10, activation="sigmoid", init="default", strides=None)),
    "convnet": (lambda: ConvNet(shape=(1, 9, 9), num_classes=10, channels=(4, 8), hidden=6, activation="relu")),
    "mlp": (lambda: MLP(shape=(7,), num_classes=10, hidden=(5,), activation="tanh")),
    "dilated": Dilated,
}
SHAPES = {"lenet": (3, 16, 16), "convnet": (1, 9, 9), "mlp": (7,), "dilated": (2, 8, 8)}


@pytest.mark.parametrize("name", NETS)
def test_a_group_has_the_gradient_that_it_has_alone(name):
    torch.manual_seed(0)
    net = Net(NETS[name]().double())
    assert is_layered(net.module)
    x = torch.rand(GROUPS, SIZE, *SHAPES[name], dtype=torch.float64).requires_grad_()
    y = torch.rand(GROUPS, SIZE, 10, dtype=torch.float64).softmax(-1).requires_grad_()
    ours, plain = grouped_gradients(net, net.initial(), x, y), net.gradients(net.initial(), x, y)
    torch.testing.assert_close(ours, plain)
    weights = torch.rand_like(plain)
    for mine, theirs in zip(*(torch.autograd.grad((g * weights).sum(), (x, y)) for g in (ours, plain)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_classes_serve_as_labels_and_nothing_is_kept_for_a_backward_pass_that_nobody_wants():
    net = Net(NETS["mlp"]())
    x, y = torch.rand(GROUPS, SIZE, 7), torch.randint(10, (GROUPS, SIZE))
    with torch.no_grad():
        found = grouped_gradients(net, net.initial(), x, y)
    assert not found.requires_grad
    torch.testing.assert_close(found, net.gradients(net.initial(), x, y))


@pytest.mark.parametrize(
    "layer", [nn.GroupNorm(1, 4), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(1, 1, 3, padding="same"), nn.LSTM(2, 2)]
)
def test_other_layers_are_not_taken_for_products(layer):
    assert not is_layered(nn.Sequential(nn.Linear(2, 2), layer))
