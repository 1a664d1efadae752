"""Gradients of groups of samples by products of signals and inputs, against the gradient of each group alone."""

import pytest
import torch
from torch import Tensor, nn

from benchmark.models.convnet import ConvNet
from benchmark.models.hitaj_cnn import HitajCNN
from benchmark.models.leaky_convnet import LeakyConvNet
from benchmark.models.lenet import LeNet
from benchmark.models.mlp import MLP
from benchmark.models.papernot_cnn import PapernotCNN
from benchmark.models.strided_convnet import StridedConvNet
from benchmark.training.functional import Net
from benchmark.training.grouped import Chain
from tests.benchmark.helpers import TinyNet

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


class Sparse(nn.Sequential):
    """Pooled maps whose maxima are tied wherever the activation is dead, overlapping windows, a curve by autograd."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(27, 10)
        )


NETS = {
    "lenet": lambda: LeNet(shape=(3, 16, 16), num_classes=10, activation="sigmoid", init="default", strides=None),
    "convnet": lambda: ConvNet(shape=(1, 9, 9), num_classes=10, channels=(4, 8), hidden=6, activation="relu"),
    "mlp": lambda: MLP(shape=(7,), num_classes=10, hidden=(5,), activation="tanh"),
    "strided": lambda: StridedConvNet(
        shape=(1, 8, 8), num_classes=10, channels=(3, 4), hidden=6, activation="tanh", init="uniform", kernel=3
    ),
    "leaky": lambda: LeakyConvNet(shape=(1, 8, 8), num_classes=10, channels=(3, 4), stem=1, hidden=6),
    "hitaj": lambda: HitajCNN(shape=(1, 8, 8), num_classes=10),
    "papernot": lambda: PapernotCNN(shape=(1, 8, 8), num_classes=10, width=3, hidden=6, padding=1, dropout=0.0),
    "tiny": TinyNet,
    "dilated": Dilated,
    "sparse": Sparse,
}
SHAPES = {"lenet": (3, 16, 16), "convnet": (1, 9, 9), "mlp": (7,), "dilated": (2, 8, 8), "sparse": (2, 8, 8)}


def chained(name: str) -> tuple[Net, Chain, Tensor]:
    """Return a network of NETS in double precision, its chain, and samples for all groups."""
    torch.manual_seed(0)
    net, shape = Net(NETS[name]().double()), SHAPES.get(name, (1, 8, 8))
    chain = Chain.of(net, shape)
    assert chain is not None
    return net, chain, torch.rand(GROUPS, SIZE, *shape, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("name", NETS)
def test_a_group_has_the_gradient_that_it_has_alone_and_so_has_a_function_of_it(name):
    net, chain, x = chained(name)
    y = torch.rand(GROUPS, SIZE, 10, dtype=torch.float64).requires_grad_()  # not even a distribution
    ours, plain = chain.gradients(net.initial(), x, y), net.gradients(net.initial(), x, y)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    weights = torch.rand_like(plain)
    slopes = [torch.autograd.grad((g * weights).square().sum(), (x, y), retain_graph=True) for g in (ours, plain)]
    for mine, theirs in zip(*slopes, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    again = torch.autograd.grad((ours * weights).square().sum(), x)
    torch.testing.assert_close(again[0], slopes[0][0])


def test_ties_of_the_pooling_are_broken_as_in_the_plain_network():
    net, chain, _ = chained("sparse")
    x = torch.zeros(GROUPS, SIZE, 2, 8, 8, dtype=torch.float64)
    x[:, :, :, 2:5, 3:6] = 1  # flat regions, so that most windows hold equal numbers
    x.requires_grad_()
    y = torch.arange(GROUPS * SIZE).view(GROUPS, SIZE) % 10
    found = [gradients(net.initial(), x, y) for gradients in (chain.gradients, net.gradients)]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
    weights = torch.rand_like(found[0])
    torch.testing.assert_close(*(torch.autograd.grad((g * weights).sum(), x)[0] for g in found))


def test_classes_serve_as_labels_and_nothing_is_kept_for_a_backward_pass_that_nobody_wants():
    net, chain, x = chained("mlp")
    y = torch.randint(10, (GROUPS, SIZE))
    with torch.no_grad():
        found = chain.gradients(net.initial(), x, y)
    assert not found.requires_grad
    torch.testing.assert_close(found, net.gradients(net.initial(), x, y).detach())


class Skipping(nn.Module):
    """Network that adds a layer's input to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


class Twice(Skipping):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


class Idle(Skipping):
    """Network with a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Between(Skipping):
    """Network that does something of its own between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(torch.tanh(self.layer(x)))


class Squared(nn.Linear):
    """Network that is a linear layer by name only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), (4,)),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), (4,)),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False, track_running_stats=False)), (4,)),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), (4,)),
        (nn.Conv2d(4, 4, 3, groups=2), (4, 5, 5)),
        (nn.Conv2d(1, 1, 3, padding="same"), (1, 5, 5)),
        (nn.Conv2d(1, 1, 3, padding_mode="circular", padding=1), (1, 5, 5)),
        (nn.Flatten(), (4,)),
        *((module, (4,)) for module in (Skipping(), Twice(), Idle(), Between(), Squared(4, 4))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_chain_of_known_layers_is_not_taken_for_one(module, shape):
    assert Chain.of(Net(module), shape) is None
