import pytest
import torch
from torch import nn

from benchmark.errors import ConfigError
from benchmark.training.functional import Layout, Net
from tests.benchmark.helpers import TinyNet, digits_like


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
