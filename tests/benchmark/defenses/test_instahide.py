import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.release.instahide import InstaHide, mixing_weights, random_partners
from benchmark.errors import ConfigError, Refused
from benchmark.settings.release.defense import MechanismContext
from tests.benchmark.helpers import TinyNet, digits_like


def instahide(**changes) -> InstaHide:
    defense = InstaHide(**({"k": 4, "mode": "cross", "encodings": 3, "signs": True, "inference": "plain"} | changes))
    defense.enter(MechanismContext(digits_like(40, 2), 10, TinyNet))
    return defense


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mode", ["cross", "inside"])
def test_weights_sum_to_one_within_their_bounds(mode):
    weights = mixing_weights(500, 4, mode, rng())
    assert torch.allclose(weights.sum(dim=1), torch.ones(500))
    assert weights.max() <= 0.65
    if mode == "cross":
        assert weights[:, :2].sum(dim=1).min() >= 0.3


def test_labels_count_private_images_only():
    private = digits_like(30)
    release = instahide().release(private, rng())
    assert release.x.shape == (90, 1, 8, 8) and release.y.shape == (90, 10)
    assert release.y.sum(dim=1).max() < 1
    inside = instahide(mode="inside").release(private, rng())
    assert torch.allclose(inside.y.sum(dim=1), torch.ones(90))


def test_a_row_is_the_mixture_that_the_owner_knows_of_up_to_signs():
    private = digits_like(30)
    defense = instahide(k=2, mode="inside")
    release = defense.release(private, rng())
    parts, weights = (defense.secrets()[name] for name in ("parts", "weights"))
    x = defense.encode(private.x)
    mixed = (weights.view(90, 2, 1, 1, 1) * x[parts]).sum(dim=1)
    assert torch.allclose(release.x.abs(), mixed.abs(), atol=1e-5)
    assert 0.4 < (release.x.sign() == mixed.sign()).float().mean() < 0.6
    assert torch.equal(release.source, parts[:, 0])


def test_mixup_keeps_the_signs():
    private = digits_like(30)
    defense = instahide(k=2, mode="inside", signs=False)
    release = defense.release(private, rng())
    parts, weights = (defense.secrets()[name] for name in ("parts", "weights"))
    mixed = (weights.view(90, 2, 1, 1, 1) * defense.encode(private.x)[parts]).sum(dim=1)
    assert torch.allclose(release.x, mixed, atol=1e-5)


def test_nobody_is_mixed_with_himself():
    first = torch.arange(20).repeat(5)
    assert not (random_partners(first, 20, rng()) == first).any()


def test_the_same_randomness_gives_the_same_release():
    private = digits_like(30)
    assert torch.equal(instahide().release(private, rng()).x, instahide().release(private, rng()).x)


def test_mixed_inference_draws_anew():
    defense = instahide(inference="mixed")
    defense.release(digits_like(30), rng())
    x = digits_like(5).x
    assert not torch.equal(defense.encode(x), defense.encode(x))


def test_a_party_trains_on_one_mixture_of_each_sample():
    own = instahide().local_data(digits_like(6), rng())
    assert own.x.shape == (6, 1, 8, 8) and own.y.shape == (6, 10)
    assert instahide().local_data(digits_like(1), rng()).x.shape == (1, 1, 8, 8)


def test_public_samples_are_needed():
    with pytest.raises(Refused, match="public"):
        InstaHide(k=4, mode="cross", encodings=1, signs=True, inference="plain").release(digits_like(5), rng())


def test_tables_cannot_be_mixed_and_modes_are_named():
    with pytest.raises(ConfigError, match="image dataset"):
        instahide().release(Split(torch.rand(4, 3), torch.zeros(4, dtype=torch.int64)), rng())
    with pytest.raises(ConfigError, match="inside or cross"):
        instahide(mode="across")
