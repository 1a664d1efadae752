import pytest
import torch

from benchmark.data.blocks import from_blocks, to_blocks


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
