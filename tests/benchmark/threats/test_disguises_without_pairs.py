"""Attacks on disguised images that need no known pair: statistics of ciphertexts, and chosen plaintexts."""

from functools import cache, partial

import pytest
import torch

from benchmark.cell import Cell, play
from benchmark.data.digits import Digits
from benchmark.defenses.none import NoDefense
from benchmark.defenses.release.aes_block import AESBlock
from benchmark.defenses.release.rmt import RMT
from benchmark.errors import ConfigError
from benchmark.models.mlp import MLP
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.reconstruction.block_frequency import BlockFrequency, best_match, fingerprints, order_of_blocks
from benchmark.threats.reconstruction.block_unmixing import BlockUnmixing
from benchmark.threats.reconstruction.chosen_plaintext import ChosenPlaintext
from benchmark.threats.reconstruction.similarity_graph import fitted_weights

NET = partial(MLP, hidden=[32], activation="relu")
DIGITS = Digits(sizes={"owner": 800, "attacker": 400, "public": 50, "calibration": 50, "test": 200})


def attacked(threat, defense=None) -> tuple[dict[str, float], dict[str, float | str]]:
    setting = ReleaseSetting(epochs=1, examiner_epochs=8, victims=100, candidates=5, measures={})
    outcome = play(Cell(DIGITS, NET, setting, threat, [defense or NoDefense()], seed=0))[0]
    return outcome.risk, outcome.diagnostics


def aes(one_cipher: bool = True) -> AESBlock:
    return AESBlock(block=2, one_cipher=one_cipher, permute=True)


def rmt(form: str = "matrix", noise: float = 0.0) -> RMT:
    return RMT(block=4, noise=noise, form=form, permute=True)


@cache
def frequency(adaptive: bool, one_cipher: bool | None) -> dict[str, float]:
    threat = BlockFrequency(block=4 if one_cipher is not None else 2, told=100, restarts=5, adaptive=adaptive)
    return attacked(threat, None if one_cipher is None else aes(one_cipher))[0]


def test_frequency_analysis_recovers_blocks_of_plain_images():
    assert frequency(False, None)["explained_variance"] > 0.25


@pytest.mark.parametrize("one_cipher", [True, False])
def test_frequency_analysis_breaks_aes_without_pairs(one_cipher):
    read = frequency(True, one_cipher)
    assert read["explained_variance"] > 0.2 > frequency(False, one_cipher)["explained_variance"]
    assert read["examiner_accuracy"] > 0.2  # twice chance, up to which a disguise counts as safe


def test_outlines_reveal_the_order_of_blocks():
    rng = torch.Generator().manual_seed(0)
    factor = torch.randn((12, 4), generator=rng)
    own, other = ((factor @ torch.randn((4, 3000), generator=rng) > 0.5).double() for _ in range(2))
    order = torch.randperm(12, generator=rng)
    assert torch.equal(order_of_blocks(other[order], own, 5, rng), order)


def test_a_block_is_matched_by_its_positions_and_an_unseen_one_is_not():
    where = torch.tensor([[90.0, 1.0], [1.0, 90.0], [40.0, 40.0]])
    beside = where.clone()
    match = best_match((where, beside, 100), (where[:2].flip(0), beside[:2].flip(0), 100))
    assert match[:2].tolist() == [1, 0]


def test_fingerprints_are_equal_for_equal_blocks_only():
    blocks = torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]).view(1, 3, 1, 2).repeat(2, 1, 1, 1)
    everywhere, apart = (fingerprints(blocks, shared) for shared in (True, False))
    assert torch.equal(everywhere[0], everywhere[1]) and everywhere[0, 0] == everywhere[0, 1] != everywhere[0, 2]
    assert apart[0, 0] == apart[0, 1] and not torch.isin(apart[0], apart[1]).any()


@pytest.mark.parametrize("axes", ["principal", "independent"])
def test_unmixing_inverts_rmt_without_pairs(axes):
    threat = partial(BlockUnmixing, axes=axes, block=4, iterations=50)
    blind, solved = (attacked(threat(adaptive=adaptive), rmt())[0]["explained_variance"] for adaptive in (False, True))
    assert solved > 0.3 and solved > blind + 0.2


@pytest.mark.parametrize(
    ("defense", "rest", "at_least"),
    [(None, "linear", 0.99), (rmt(), "linear", 0.99), (rmt("vec", 100.0), "linear", 0.5), (aes(), "average", 0.3)],
)
def test_chosen_plaintexts_decode_what_is_deterministic(defense, rest, at_least):
    risk, notes = attacked(ChosenPlaintext(queries=400, block=4, ridge=1e-3, adaptive=False), defense)
    assert notes["rest"] == rest
    assert risk["explained_variance"] > at_least


def test_weights_of_mixtures_are_found_without_labels():
    rng = torch.Generator().manual_seed(0)
    images = torch.randn((4, 60), generator=rng)
    parts = torch.tensor([[0, 1], [2, 3], [3, 0]])
    weights = torch.tensor([[0.6, 0.2], [0.3, 0.5], [0.4, 0.4]])
    mixed = (weights.unsqueeze(-1) * images[parts]).sum(dim=1).abs()
    assert torch.allclose(fitted_weights(mixed, images, parts), weights, atol=0.01)


def test_impossible_options_are_refused():
    with pytest.raises(ConfigError, match=r"threat\.axes"):
        BlockUnmixing(axes="some", block=4, iterations=1, adaptive=False)
    with pytest.raises(ConfigError, match=r"threat\.queries"):
        ChosenPlaintext(queries=1, block=4, ridge=1.0, adaptive=False)
