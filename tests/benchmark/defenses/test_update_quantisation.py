import pytest
import torch

from benchmark.defenses.base import Round
from benchmark.defenses.update_quantisation import UpdateQuantisation
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.training.functional import Layout

LAYOUT = Layout(("w", "b"), ((40, 50), (10,)))


def turn() -> Round:
    return Round(0, LAYOUT, torch.zeros(LAYOUT.size), torch.arange(2), generator(0, "round"))


def test_each_tensor_keeps_its_range_and_few_values():
    updates = torch.randn(2, LAYOUT.size, generator=generator(0, "updates"))
    sent = UpdateQuantisation(bits=2).protect(updates, turn())
    for part in LAYOUT.slices().values():
        for row, before in zip(sent[:, part], updates[:, part], strict=True):
            assert len(row.unique()) <= 4
            torch.testing.assert_close(torch.stack(row.aminmax()), torch.stack(before.aminmax()))


def test_rounding_is_unbiased_and_saves_traffic():
    updates, round = torch.full((2, LAYOUT.size), 0.3), turn()
    updates[:, ::2], updates[:, 1] = 0.0, 1.0
    sent = UpdateQuantisation(bits=1).protect(updates, round)
    assert sent[:, : 40 * 50].mean() == pytest.approx(updates[:, : 40 * 50].mean().item(), abs=0.03)
    assert round.bytes_sent == 2 * (16 - LAYOUT.size * (4 - 1 / 8))


def test_a_constant_tensor_stays_as_it_is_and_odd_bits_are_refused():
    zeros = torch.zeros(2, LAYOUT.size)
    assert torch.equal(UpdateQuantisation(bits=8).protect(zeros, turn()), zeros)
    with pytest.raises(ConfigError, match="from 1 to 16"):
        UpdateQuantisation(bits=0)
