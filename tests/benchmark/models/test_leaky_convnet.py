import pytest
import torch

from benchmark.errors import ConfigError
from benchmark.models.leaky_convnet import LeakyConvNet


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


def test_tables_are_refused():
    with pytest.raises(ConfigError, match="use model=mlp"):
        LeakyConvNet(shape=(5,), num_classes=2, channels=[4], stem=1, hidden=4)
