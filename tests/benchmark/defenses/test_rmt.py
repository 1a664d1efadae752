import pytest
import torch

from benchmark.data.base import Split
from benchmark.data.blocks import to_blocks
from benchmark.defenses.release.rmt import RMT, haar_orthogonal
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from tests.benchmark.helpers import digits_like


def rmt(**changes) -> RMT:
    return RMT(**({"block": 4, "noise": 0.0, "form": "matrix", "permute": True} | changes))


def keyed(seed: int = 0, private: Split | None = None, **changes) -> RMT:
    defense = rmt(**changes)
    defense.release(private or digits_like(20), generator(seed, "key"))
    return defense


def test_keys_are_orthogonal_and_differ_by_position():
    key = haar_orthogonal(5, 4, generator(0, "key"))
    assert torch.allclose(key @ key.transpose(1, 2), torch.eye(4).expand(5, 4, 4), atol=1e-5)
    assert (key[0] - key[1]).abs().max() > 0.1


def test_haar_matrices_have_no_preferred_sign():
    """QR without the sign correction would give a biased diagonal."""
    key = haar_orthogonal(4000, 2, generator(0, "key"))
    assert key.mean(dim=0).abs().max() < 0.05


@pytest.mark.parametrize("form", ["matrix", "vec"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 10, 7)])
def test_without_noise_encoding_is_repeatable_and_exactly_invertible(form, shape):
    x = torch.rand(6, *shape)
    defense = keyed(private=Split(x, torch.arange(6)), form=form)
    encoded = defense.encode(x)
    assert torch.equal(encoded, defense.encode(x))
    assert (encoded[..., : shape[1], : shape[2]] - x).abs().max() > 0.1
    assert torch.allclose(defense.decode(encoded)[..., : shape[1], : shape[2]], x, atol=1e-5)


def test_blocks_keep_their_energy_and_change_their_places():
    x = digits_like(10).x
    defense = keyed(block=2)
    before, after = to_blocks(x, 2).flatten(3).norm(dim=3), to_blocks(defense.encode(x), 2).flatten(3).norm(dim=3)
    assert torch.allclose(before[:, :, defense.order], after, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-2)


def test_without_permutation_blocks_stay():
    assert torch.equal(keyed(permute=False, block=2).order, torch.arange(16))


def test_the_key_follows_its_seed_and_nothing_else():
    x = digits_like(5).x
    assert torch.equal(keyed(0).encode(x), keyed(0).encode(x))
    assert not torch.equal(keyed(0).encode(x), keyed(1).encode(x))


def test_noise_is_fresh_uniform_and_in_grey_levels():
    x = torch.zeros(400, 1, 8, 8)
    defense = keyed(noise=51.0)
    first, second = defense.decode(defense.encode(x)), defense.decode(defense.encode(x))
    assert not torch.equal(first, second)
    assert first.min() > -1e-4 and first.max() < 0.2 + 1e-4
    assert first.mean() == pytest.approx(0.1, abs=0.005)


def test_only_parameters_are_published():
    assert rmt(noise=51.0).facts() == {"block": 4, "form": "matrix", "noise_mean": pytest.approx(0.1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": 0}, "block must be a whole number of at least 1"),
        ({"noise": -1.0}, "at least 0"),
        ({"form": "round"}, "matrix or vec"),
    ],
)
def test_impossible_parameters_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        rmt(**change)


def test_tables_have_no_blocks():
    with pytest.raises(ConfigError, match="choose an image dataset"):
        rmt().release(Split(torch.rand(4, 3), torch.zeros(4)), generator(0, "key"))
