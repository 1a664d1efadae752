import pytest
import torch

from benchmark.data.base import Split
from benchmark.data.blocks import to_blocks
from benchmark.defenses.release.aes_block import AESBlock
from benchmark.errors import ConfigError


def images(n: int = 5, channels: int = 3, side: int = 12) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, channels, side, side), generator=rng) / 255


def fitted(x: torch.Tensor, seed: int = 0, **changes) -> tuple[AESBlock, torch.Tensor]:
    defense = AESBlock(**({"block": 4, "one_cipher": True, "permute": True} | changes))
    release = defense.release(Split(x, torch.zeros(len(x), dtype=torch.int64)), torch.Generator().manual_seed(seed))
    return defense, release.x


@pytest.mark.parametrize("block", [1, 2, 4, 8])
@pytest.mark.parametrize("one_cipher", [True, False])
def test_decodes_exactly(block, one_cipher):
    x = images(side=16)
    defense, released = fitted(x, block=block, one_cipher=one_cipher)
    assert torch.equal(defense.decode(released), x)


def test_sides_that_are_no_multiple_are_padded():
    x = images(side=10)
    defense, released = fitted(x)
    assert released.shape == (5, 3, 12, 12)
    assert torch.equal(defense.decode(released)[..., :10, :10], x)


def test_small_blocks_grow_the_image():
    assert fitted(images(side=8), block=2)[1].shape == (5, 3, 16, 16)


def test_the_same_input_encodes_the_same_twice_and_test_inputs_too():
    x = images()
    defense, released = fitted(x)
    assert torch.equal(defense.encode(x), released) and torch.equal(defense.encode(x), defense.encode(x))


def test_equal_blocks_give_equal_ciphertexts_only_under_one_key():
    x = torch.full((1, 1, 8, 8), 0.5)
    codes = to_blocks(fitted(x, permute=False)[1], 4)[0, 0]
    assert torch.equal(codes[0], codes[3])
    codes = to_blocks(fitted(x, permute=False, one_cipher=False)[1], 4)[0, 0]
    assert not torch.equal(codes[0], codes[3])


def test_a_known_answer_of_the_cipher():
    """FIPS 197, appendix C.1."""
    from benchmark.defenses.release.aes_block import _aes

    plain = torch.tensor([i * 17 for i in range(16)], dtype=torch.uint8)
    crypted = _aes(bytes(range(16)), plain, decrypt=False)
    assert bytes(crypted.tolist()).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


def test_keys_differ_by_randomness():
    assert not torch.equal(fitted(images(), 0)[1], fitted(images(), 1)[1])


def test_blocks_must_fill_the_cipher():
    with pytest.raises(ConfigError, match="multiple of 4"):
        AESBlock(block=3, one_cipher=True, permute=True)
