"""Attacks on disguised images: codebook, norm leak, and the graph attack on InstaHide."""

import pytest
import torch

from benchmark.data.base import Split
from benchmark.data.blocks import to_blocks
from benchmark.defenses.release.aes_block import AESBlock
from benchmark.defenses.release.instahide import InstaHide
from benchmark.defenses.release.rmt import RMT
from benchmark.errors import ConfigError
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.reconstruction.codebook import Codebook, codes, look_up, permutation, usual_unseen
from benchmark.threats.reconstruction.instahide_graph import InstaHideGraph, solve
from benchmark.threats.reconstruction.norm_leak import NormLeak, norms
from benchmark.threats.reconstruction.regression_known_pairs import RegressionKnownPairs, fit
from benchmark.threats.reconstruction.regression_known_pairs import assign as matched
from benchmark.threats.reconstruction.similarity_graph import assign, clusters
from tests.benchmark.helpers import TinyMLP, TinyNet, context


def play(threat, defense=None, victims: int = 20) -> dict[str, float]:
    setting = ReleaseSetting(epochs=1, examiner_epochs=4, victims=victims, candidates=5, measures={})
    outcome = setting.play(context(threat, defense, architecture=TinyMLP))
    return {**outcome.risk, **{k: v for k, v in outcome.diagnostics.items() if isinstance(v, float)}}


def coarse_images(n: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    cells = torch.randint(2, (n, 1, 4, 4), generator=rng).float()
    return cells.repeat_interleave(4, 2).repeat_interleave(4, 3)


@pytest.mark.parametrize("one_cipher", [True, False])
def test_patterns_of_agreement_reveal_the_permutation(one_cipher):
    x = coarse_images(60)
    defense = AESBlock(block=4, one_cipher=one_cipher, permute=True)
    encoded = defense.release(Split(x, torch.zeros(60)), torch.Generator().manual_seed(1)).x
    source = permutation(codes(encoded, 4), to_blocks(x, 4).flatten(-2).movedim(2, 0))
    assert torch.equal(source, defense.order)


def test_a_codebook_recovers_nothing_of_unseen_encrypted_blocks():
    found = play(Codebook(pairs=20, block=4, adaptive=True), AESBlock(block=4, one_cipher=True, permute=True))
    assert found["hit_rate"] == 0 and found["examiner_accuracy"] < 0.3


def test_a_codebook_of_plain_blocks_finds_similar_ones():
    assert play(Codebook(pairs=60, block=4, adaptive=False))["ssim"] > 0.5


def test_an_unseen_block_is_the_mean_of_the_known_ones_that_are_not_of_one_colour():
    plain = torch.zeros(1, 4, 1, 2, 2)
    plain[0, 1:3] = torch.tensor([[[0.0, 1.0], [1.0, 1.0]], [[0.5, 0.0], [0.0, 0.0]]]).unsqueeze(1)
    expected = torch.tensor([[0.25, 0.5], [0.5, 0.5]])
    assert torch.equal(usual_unseen(plain)[0, 0], expected)
    assert torch.equal(usual_unseen(plain[:, :1] + 0.3)[0, 0], torch.full((2, 2), 0.3))  # no other block is known
    known = torch.arange(4.0).view(1, 4, 1, 1)
    values, hits = look_up(torch.tensor([[[[3.0]], [[9.0]]]]), known, plain, everywhere=False, similar=False)
    assert hits.flatten().tolist() == [True, False]
    assert torch.equal(values[0, 0, 0], plain[0, 3, 0]) and torch.equal(values[0, 1, 0], expected)


def test_norms_survive_an_orthogonal_map_and_give_the_order_of_blocks():
    rmt = RMT(block=4, noise=0.0, form="matrix", permute=True)
    blind = play(NormLeak(block=4, hidden=64, epochs=40, adaptive=False), rmt)["label_accuracy"]
    solved = play(NormLeak(block=4, hidden=64, epochs=40, adaptive=True), rmt)["label_accuracy"]
    plain = play(NormLeak(block=4, hidden=64, epochs=40, adaptive=False))["label_accuracy"]
    assert solved == plain
    assert solved > blind + 0.2


def test_norms_of_rows_and_blocks():
    x = torch.ones(1, 1, 4, 4)
    assert torch.allclose(norms(x, 4, whole=False), torch.full((1, 1, 1, 4), 2.0))
    assert torch.allclose(norms(x, 4, whole=True), torch.full((1, 1, 1, 1), 4.0))


def test_images_are_solved_for_from_true_mixtures():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn((6, 30), generator=rng)
    mixing = torch.rand((120, 6), generator=rng)
    mixing = mixing * (torch.rand((120, 6), generator=rng) < 0.4)
    signs = 2 * torch.randint(2, (120, 30), generator=rng) - 1
    found = solve((signs * (mixing @ x)).abs(), mixing, x.mean(dim=0).sign(), iterations=800, lr=0.02)
    correlation = torch.nn.functional.cosine_similarity(found, x, dim=1).abs()
    per_pixel = (found.abs() - x.abs()).abs().mean()  # each pixel's sign, shared by all images, may stay unknown
    assert correlation.mean() > 0.5 and per_pixel < 0.3


def test_the_oracle_beats_the_random_graph():
    risks = {}
    for graph in ("oracle", "random"):
        threat = InstaHideGraph(
            graph=graph, iterations=300, lr=0.02, mixtures=400, epochs=1, image_pairs=10, adaptive=True
        )
        hide = InstaHide(k=2, mode="cross", encodings=2, signs=True, inference="plain")
        risks[graph] = play(threat, hide, victims=40)
    assert risks["oracle"]["ssim"] > risks["random"]["ssim"] + 0.1


def test_tight_groups_become_clusters_and_labels_weights():
    scores = torch.full((6, 6), -5.0)
    scores[:3, :3] = scores[3:, 3:] = 5.0
    cores = clusters(scores, 2)
    assert sorted(sorted(core.tolist()) for core in cores) == [[0, 1, 2], [3, 4, 5]]
    labels = torch.tensor([[0.6, 0.2]] * 3 + [[0.1, 0.5]] * 3)
    parts, weights = assign(scores, cores, labels)
    assert torch.equal(parts[0] == parts[1], torch.tensor([True, True])) and parts[0, 0] != parts[3, 0]
    assert torch.allclose(weights[0], torch.tensor([0.6, 0.2]))


# -- regression_known_pairs
def attack(pairs: int = 10, block: int = 4, adaptive: bool = True) -> RegressionKnownPairs:
    return RegressionKnownPairs(pairs=pairs, block=block, ridge=1e-2, adaptive=adaptive)


def risk(threat, *, architecture=TinyNet, **rmt) -> dict[str, float]:
    setting = ReleaseSetting(epochs=1, examiner_epochs=4, victims=20, candidates=20, measures={})
    defense = RMT(**({"block": 4, "noise": 0.0, "form": "matrix", "permute": True} | rmt))
    return setting.play(context(threat, defense, architecture=architecture)).risk


def test_an_orthogonal_map_and_a_permutation_are_recovered():
    torch.manual_seed(0)
    plain = torch.rand(3, 40, 4)
    key = torch.linalg.qr(torch.randn(3, 4, 4)).Q
    order = torch.tensor([2, 0, 1])
    maps, costs = fit((plain @ key)[order], plain, ridge=1e-6)
    assert torch.equal(matched(costs), order)
    assert torch.allclose(maps[0, 2], key[2].T, atol=1e-3)


def test_costs_are_true_leave_one_out_residuals():
    torch.manual_seed(0)
    encoded, plain = torch.rand(1, 5, 3), torch.rand(1, 5, 2)
    _, costs = fit(encoded, plain, ridge=0.1)
    total = 0.0
    for i in range(5):
        rest = [j for j in range(5) if j != i]
        a, b = encoded[0, rest].double(), plain[0, rest].double()
        weights = torch.linalg.solve(a.T @ a + 0.1 * torch.eye(3, dtype=torch.float64), a.T @ b)
        total += (plain[0, i] - encoded[0, i].double() @ weights).square().sum().item()
    assert costs.item() == pytest.approx(total / plain.square().sum().item(), rel=1e-4)


@pytest.mark.parametrize("form", ["matrix", "vec"])
def test_enough_pairs_break_the_disguise_in_spite_of_the_permutation(form):
    pairs = 10 if form == "matrix" else 60
    assert risk(attack(pairs), form=form)["ssim"] > 0.95


def test_images_whose_sides_are_no_multiple_of_the_block():
    assert risk(attack(20), block=3, architecture=TinyMLP)["ssim"] > 0.95


def test_the_public_scripts_form_fails_against_the_permutation_only():
    assert risk(attack(block=2, adaptive=False), block=2, permute=False)["ssim"] > 0.95
    assert risk(attack(block=2, adaptive=False), block=2)["ssim"] < 0.7


def test_few_pairs_and_noise_make_it_harder():
    easy = risk(attack(10), form="vec")["psnr_db"]
    assert risk(attack(2), form="vec")["psnr_db"] < easy
    assert risk(attack(10), form="vec", noise=100.0)["psnr_db"] < easy


def test_at_least_one_pair():
    with pytest.raises(ConfigError, match="at least 1"):
        attack(pairs=0)
