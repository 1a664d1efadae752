import pytest
import torch

from benchmark.errors import ConfigError
from benchmark.models.hitaj_cnn import HitajCNN


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
