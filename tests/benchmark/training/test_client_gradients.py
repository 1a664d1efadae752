"""Clients with weights of their own, played together, against each alone."""

import pytest
import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.models.conv1d import Conv1d
from benchmark.models.convnet import ConvNet
from benchmark.models.mlp import MLP
from benchmark.training import client_gradients as module
from benchmark.training.client_gradients import client_gradients
from benchmark.training.functional import Layout, Net
from tests.benchmark.helpers import TinyNet, digits_like

CLIENTS, BATCH = 5, 3


class Unbiased(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False),
            nn.Tanh(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Linear(5, 3, bias=False),
            nn.Flatten(),
            nn.Linear(3 * 2 * 3, 10, bias=False),
        )


NETS = {
    "convnet": (
        lambda: ConvNet(shape=(1, 9, 9), num_classes=10, channels=(4, 8), hidden=6, activation="relu"),
        (1, 9, 9),
    ),
    "colour": (
        lambda: ConvNet(shape=(3, 8, 8), num_classes=10, channels=(4,), hidden=6, activation="sigmoid"),
        (3, 8, 8),
    ),
    "mlp": (lambda: MLP(shape=(1, 4, 4), num_classes=10, hidden=(5,), activation="tanh"), (1, 4, 4)),
    "unbiased": (Unbiased, (2, 8, 8)),
    "no chain": (lambda: Conv1d(shape=(2, 32), num_classes=10, channels=(3,), hidden=4, activation="relu"), (2, 32)),
}


def some(name: str) -> tuple[Net, Tensor, Tensor, Tensor]:
    """Return a network, weights (n, d), samples and classes of all clients."""
    torch.manual_seed(0)
    build, shape = NETS[name]
    net = Net(build().double())
    params = net.initial() + 0.1 * torch.randn(CLIENTS, net.layout.size, dtype=torch.float64)
    return net, params, torch.rand(CLIENTS, BATCH, *shape, dtype=torch.float64), torch.randint(10, (CLIENTS, BATCH))


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    monkeypatch.setattr(module, "LARGE_INPUT", 0)


def one_by_one(net: Net, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([net.gradient(*client) for client in zip(params, x, y, strict=True)])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("together", [1, 2, 100])
def test_clients_have_the_gradients_that_they_have_alone(name, together, monkeypatch):
    net, params, x, y = some(name)
    monkeypatch.setattr(module, "CHUNK_BYTES", together * x[0].numel() * 8)
    torch.testing.assert_close(
        client_gradients(net, x)(params, x, y), one_by_one(net, params, x, y), rtol=1e-9, atol=1e-12
    )


def test_small_convolutions_and_whatever_is_no_chain_are_left_to_vmap(monkeypatch):
    played = []
    monkeypatch.setattr(module, "_chunk_gradients", lambda chain, params, x, y: played.append(len(x)) or params)
    for name in NETS:
        net, params, x, y = some(name)
        client_gradients(net, x)(params, x, y)
    assert played == [CLIENTS] * 4
    monkeypatch.setattr(module, "LARGE_INPUT", 10**6)
    for name in NETS:
        net, params, x, y = some(name)
        client_gradients(net, x)(params, x, y)
    assert played == [CLIENTS] * 5  # the MLP again


def test_they_may_share_the_weights_and_have_soft_labels():
    net, params, x, _ = some("convnet")
    y = torch.rand(CLIENTS, BATCH, 10, dtype=torch.float64).softmax(dim=-1)
    expected = one_by_one(net, params[:1].expand(CLIENTS, -1), x, y)
    torch.testing.assert_close(client_gradients(net, x)(params[0], x, y), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_ties_of_the_pooling_are_broken_as_in_the_plain_network(activation):
    torch.manual_seed(0)
    net = Net(ConvNet(shape=(1, 8, 8), num_classes=10, channels=(4, 8), hidden=6, activation=activation).double())
    x = torch.zeros(CLIENTS, BATCH, 1, 8, 8, dtype=torch.float64)
    x[..., 2:5, 3:6] = 1  # flat regions: windows of equal numbers, positive and not
    y = torch.randint(10, (CLIENTS, BATCH))
    params = net.initial().expand(CLIENTS, -1)
    torch.testing.assert_close(
        client_gradients(net, x)(params, x, y), one_by_one(net, params, x, y), rtol=1e-9, atol=1e-12
    )


# -- functional
@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net(TinyNet())


def test_split_and_join_are_inverse_with_and_without_leading_dimensions(net):
    for shape in [(net.layout.size,), (3, net.layout.size)]:
        flat = torch.randn(shape)
        assert torch.equal(net.layout.join(net.layout.split(flat), batch_dims=len(shape) - 1), flat)


def test_slices_name_the_same_numbers_as_split(net):
    flat = torch.randn(net.layout.size)
    for name, part in net.layout.split(flat).items():
        assert torch.equal(flat[net.layout.slices()[name]], part.flatten())


def test_gradient_equals_autograd(net):
    data = digits_like(6)
    loss = nn.functional.cross_entropy(net.module(data.x), data.y)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.module.parameters()))])
    torch.testing.assert_close(net.gradient(net.initial(), data.x, data.y), expected)


def test_per_sample_gradients_equal_a_loop_and_average_to_the_gradient(net):
    data, params = digits_like(5), net.initial()
    fast = net.per_sample_gradients(params, data.x, data.y)
    slow = torch.stack([net.gradient(params, data.x[i : i + 1], data.y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(fast.mean(0), net.gradient(params, data.x, data.y), atol=1e-6, rtol=1e-4)


def test_gradients_of_clients_with_their_own_weights_equal_a_loop(net):
    data = digits_like(12)
    x, y = data.x.view(3, 4, 1, 8, 8), data.y.view(3, 4)
    params = net.initial() + 0.1 * torch.randn(3, net.layout.size)
    slow = torch.stack([net.gradient(p, a, b) for p, a, b in zip(params, x, y, strict=True)])
    torch.testing.assert_close(net.gradients(params, x, y), slow, atol=1e-6, rtol=1e-4)


def test_running_statistics_are_refused():
    with pytest.raises(ConfigError, match="running statistics.*norm: group"):
        Net(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))


def test_layout_of_shared_size():
    layout = Layout.of(nn.Linear(3, 2))
    assert (layout.names, layout.shapes, layout.size) == (("weight", "bias"), ((2, 3), (2,)), 8)
