import pytest
import torch

from benchmark.data.base import Split
from benchmark.data.blocks import from_blocks, to_blocks
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


# -- blocks
def test_blocks_run_row_by_row():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    blocks = to_blocks(x, 2)
    assert blocks.shape == (1, 1, 4, 2, 2)
    assert torch.equal(blocks[0, 0, 1], torch.tensor([[2.0, 3.0], [6.0, 7.0]]))
    assert torch.equal(blocks[0, 0, 2], torch.tensor([[8.0, 9.0], [12.0, 13.0]]))


@pytest.mark.parametrize(("size", "block", "padded"), [((8, 8), 4, (8, 8)), ((7, 5), 4, (8, 8)), ((3, 6), 3, (3, 6))])
def test_putting_together_undoes_cutting(size, block, padded):
    x = torch.rand(2, 3, *size)
    whole = from_blocks(to_blocks(x, block), padded)
    assert whole.shape[-2:] == padded
    assert torch.equal(whole[..., : size[0], : size[1]], x)


def test_padding_repeats_the_edge():
    whole = from_blocks(to_blocks(torch.tensor([[[[1.0, 2.0, 3.0]] * 4]]), 4), (4, 4))
    assert torch.equal(whole[0, 0, 0], torch.tensor([1.0, 2.0, 3.0, 3.0]))
