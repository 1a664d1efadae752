import pytest
import torch

from benchmark.defenses.release.rmt import RMT
from benchmark.errors import ConfigError
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.reconstruction.regression_known_pairs import RegressionKnownPairs, assign, fit
from tests.benchmark.helpers import TinyMLP, TinyNet, context


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
    assert torch.equal(assign(costs), order)
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
