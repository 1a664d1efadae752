import pytest
import torch

from benchmark.errors import ConfigError
from benchmark.models.convnet_bn import ConvNetBN
from benchmark.training.functional import Net


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
