"""Networks of fragmented federated learning: their sizes, their fixed standardisation, and images that they refuse."""

from __future__ import annotations

import pytest
import torch

from benchmark.errors import ConfigError
from benchmark.models.jebreel_cnn import JebreelCNN
from benchmark.models.standardised import CIFAR10, MNIST, Standardised
from benchmark.models.vgg16 import VGG16, Repeated
from benchmark.models.wide_resnet import WideResNet28
from benchmark.training.functional import Net


def test_the_mnist_network_has_the_papers_parameters_and_vectorises():
    net = Net(JebreelCNN(shape=(1, 28, 28), num_classes=10))
    # 5*5*10 + 10, 5*5*10*20 + 20, 320*50 + 50, 50*10 + 10
    assert net.layout.size == 260 + 5020 + 16050 + 510
    x, y, params = torch.rand(2, 3, 1, 28, 28), torch.randint(10, (2, 3)), net.initial()
    loop = torch.stack([net.gradient(params, a, b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(net.gradients(params, x, y), loop, atol=1e-5, rtol=1e-4)


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
