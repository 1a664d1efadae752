"""Attacks on released data and their controls, on the digits of scikit-learn."""

from functools import cache, partial

import pytest
import torch

from benchmark.cell import Cell, play
from benchmark.data.digits import Digits
from benchmark.data.digits_writers import DigitsWriters
from benchmark.data.lipton import Lipton
from benchmark.defenses.none import NoDefense
from benchmark.defenses.release.memoriser import Memoriser
from benchmark.defenses.release.pixel_noise import PixelNoise
from benchmark.models.mlp import MLP
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.attribute_inference.controls import KnowsAttribute, Majority
from benchmark.threats.attribute_inference.strongest import AboutPeople, StrongestAttacker
from benchmark.threats.collection.copying import Copying
from benchmark.threats.collection.train_on_release import GuessClass, KnowsClass, TrainOnRelease
from benchmark.threats.identity_inference.classifier import IdentityClassifier
from benchmark.threats.identity_inference.linkage import GuessPerson, NearestPerson, map_back
from benchmark.threats.membership_inference.controls import DisjointRelease, KnowsMembers
from benchmark.threats.membership_inference.distance import DistanceMembership
from benchmark.threats.membership_inference.groundhog import Groundhog
from benchmark.threats.membership_inference.lira import Lira, deviations_above, likelihood_ratio, moments
from benchmark.threats.membership_inference.lira_logits import LiraLogits, scaled_confidence
from benchmark.threats.membership_inference.statistics import correlation, log_density
from benchmark.threats.reconstruction.trained_inverter import TrainedInverter
from tests.benchmark.helpers import digits_like, partial_surface

NET = partial(MLP, hidden=[32], activation="relu")
DIGITS = Digits(sizes={"owner": 400, "attacker": 300, "public": 200, "calibration": 400, "test": 100})
WRITERS = DigitsWriters(sizes={"owner": 440, "attacker": 220, "public": 100, "calibration": 220}, insiders=10)
PEOPLE = Lipton(sizes={"owner": 400, "attacker": 200, "public": 50, "calibration": 400, "test": 300})


def cell(threat, defense=None, dataset=DIGITS, epochs: int = 1, seed: int = 0):
    setting = ReleaseSetting(epochs=epochs, examiner_epochs=1, victims=50, candidates=400, measures={})
    return play(Cell(dataset, NET, setting, threat, [defense or NoDefense()], seed))[0]


def distance(statistic: str, space: str = "pixels", adaptive: bool = False) -> DistanceMembership:
    return DistanceMembership(statistic=statistic, space=space, components=10, adaptive=adaptive)


def attacks():
    return {
        "nearest": distance("nearest"),
        "components": distance("nearest", "components"),
        "calibrated": distance("calibrated"),
        "ball": distance("ball"),
        "density": distance("density"),
        "lira": Lira(shadows=8, statistic="nearest", adaptive=True),
        "lira_offline": Lira(shadows=8, statistic="nearest", offline=True, adaptive=True),
    }


@cache
def membership(name: str, share: float, noise: float) -> dict[str, float]:
    return cell(attacks()[name], Memoriser(share=share, noise=noise)).risk


@pytest.mark.parametrize("name", [name for name in attacks() if name != "density"])
def test_every_statistic_detects_a_memoriser(name):
    assert membership(name, 1.0, 0.05)["attack_auc"] > 0.95


def test_density_statistics_detect_a_memoriser_less_clearly():
    assert membership("density", 1.0, 0.05)["attack_auc"] > 0.7


@pytest.mark.parametrize("name", list(attacks()))
def test_a_release_of_other_people_reveals_no_membership(name):
    error = (1 / 12 * (1 / 400 + 1 / 400)) ** 0.5
    assert abs(membership(name, 0.0, 0.05)["attack_auc"] - 0.5) < 3 * error


def test_a_few_verbatim_records_show_at_low_false_positive_rates_only():
    risk = membership("nearest", 0.05, 0.0)
    assert risk["attack_auc"] < 0.6
    assert risk["tpr_at_5pct_fpr"] > 0.07  # 0.05 + 0.05 * 0.95 if each copy is recognised, 0.05 +- 0.01 by chance
    copies = cell(Copying(), Memoriser(share=0.05, noise=0.0))
    assert copies.risk["copied_share"] > 0.03
    assert abs(copies.diagnostics["dcr_share"] - 0.5) < 0.1  # the test of nearer rows sees nothing


def test_controls_of_membership():
    assert cell(KnowsMembers()).risk["attack_auc"] == 1
    control = cell(DisjointRelease(statistic="nearest"))
    assert abs(control.risk["attack_auc"] - 0.5) < 3 * control.diagnostics["auc_standard_error"]


def test_more_noise_is_not_worse():
    weak = cell(distance("nearest"), PixelNoise(std=2.0)).risk["attack_auc"]
    assert weak < cell(distance("nearest"), PixelNoise(std=0.2)).risk["attack_auc"]


def test_likelihood_ratios_of_two_known_gaussians():
    rng = torch.Generator().manual_seed(0)
    member = torch.rand((400, 3), generator=rng) < 0.5
    shadow = torch.randn((400, 3), generator=rng).double() + 2 * member
    score = likelihood_ratio(torch.tensor([0.0, 1.0, 2.0]).double(), shadow, member)
    assert torch.allclose(score, torch.tensor([-2.0, 0.0, 2.0]).double(), atol=0.6)  # 2 x - 2 for N(2, 1) over N(0, 1)


def test_offline_scores_are_deviations_above_the_mean_without_the_candidate():
    shadow = torch.tensor([[0.0, 10.0], [2.0, 14.0]]).double()  # about 1 and 12, with a pooled variance of (2 + 8) / 2
    score = deviations_above(torch.tensor([1.0, 17.0]).double(), shadow)
    assert torch.allclose(score, torch.tensor([0.0, 5 / 5**0.5]).double())


@pytest.mark.parametrize(("private", "size"), [(30, 30), (100, 10 + 50)])
def test_a_shadow_is_as_large_as_the_private_data_if_the_adversarys_samples_suffice(private, size):
    asked, own = digits_like(20, seed=1), digits_like(50, seed=2)
    surface = partial_surface(MemberSurface, candidates=asked, attacker=own, private=private)
    drawn = list(Lira(shadows=6).draws(surface, torch.Generator().manual_seed(0)))
    assert [len(split) for _, split in drawn] == [size] * 6
    for (first, split), (second, _) in zip(drawn[::2], drawn[1::2], strict=True):
        assert torch.equal(first, ~second)
        held = {tuple(row) for row in split.x.flatten(1).tolist()}
        assert first.tolist() == [tuple(row) in held for row in asked.x.flatten(1).tolist()]
    offline = Lira(shadows=6, offline=True).draws(surface, torch.Generator().manual_seed(0))
    assert {(int(inside.sum()), len(split)) for inside, split in offline} == {(0, min(private, 50))}


def test_moments_of_empty_columns_are_the_overall_ones():
    mean, _ = moments(torch.tensor([[1.0, 5.0], [3.0, 7.0]]), torch.tensor([[True, False], [True, False]]), pooled=True)
    assert mean.tolist() == [2.0, 2.0]


def test_the_log_density_matches_a_closed_form():
    sample = torch.randn((20_000, 1), generator=torch.Generator().manual_seed(0)).double()
    assert log_density(torch.zeros(1, 1).double(), sample).exp().item() == pytest.approx(0.3989, abs=0.02)


def test_correlation_ignores_level_and_size():
    rng = torch.Generator().manual_seed(0)
    points = torch.randn((6, 50), generator=rng)
    found = correlation(points, 0.5 + 0.1 * points[:3], points)
    assert torch.allclose(found[:3], torch.ones(3).double()) and found[3:].max() < 0.6


def test_a_correlated_feature_reveals_the_attribute_and_the_majority_is_the_floor():
    names = ["boosting", "tree"]
    found = cell(StrongestAttacker(attackers=names, decision=True, adaptive=False), dataset=PEOPLE)
    floor = cell(Majority(), dataset=PEOPLE)
    assert found.risk["attribute_accuracy"] > 0.7 > floor.risk["attribute_accuracy"] + 0.1
    assert found.risk["attribute_auc"] > 0.75
    assert cell(KnowsAttribute(), dataset=PEOPLE).risk["attribute_accuracy"] == 1
    assert "demographic_parity_gap" in found.diagnostics


def test_idempotence_is_a_feature_of_the_adaptive_form():
    threat = StrongestAttacker(attackers=["tree"], decision=False, adaptive=True)
    assert cell(threat, PixelNoise(std=0.1), dataset=PEOPLE).risk["attribute_accuracy"] > 0.5


def test_an_overfitted_release_leaks_more_of_members_than_imputation():
    threat = AboutPeople(attackers=["tree"], decision=True, adaptive=False)
    assert cell(threat, Memoriser(share=1.0, noise=0.0), dataset=PEOPLE).risk["attribute_leak"] > 0.1
    assert abs(cell(threat, Memoriser(share=0.0, noise=0.0), dataset=PEOPLE).risk["attribute_leak"]) < 0.1


def test_writers_are_recognised():
    outcome = cell(IdentityClassifier(epochs=15, adaptive=True), dataset=WRITERS)
    assert outcome.risk["identity_accuracy"] > 0.3 and outcome.diagnostics["persons"] == 10
    hidden = cell(IdentityClassifier(epochs=15, adaptive=False), PixelNoise(std=3.0), dataset=WRITERS)
    assert hidden.risk["identity_accuracy"] < outcome.risk["identity_accuracy"]


def test_strong_noise_stops_linkage():
    link = partial(NearestPerson, pairs=50, ridge=1e-2)
    assert cell(link(adaptive=False)).risk["reidentified_at_1"] > 0.95
    assert cell(link(adaptive=False), PixelNoise(std=3.0)).risk["reidentified_at_5"] < 0.5
    assert cell(GuessPerson()).risk["reidentified_at_1"] < 0.1


def test_an_affine_map_is_inverted():
    rng = torch.Generator().manual_seed(0)
    plain = torch.rand((30, 5), generator=rng)
    turn = torch.linalg.qr(torch.randn((5, 5), generator=rng)).Q
    back = map_back(plain @ turn + 3, plain, plain[:4] @ turn + 3, ridge=1e-6)
    assert torch.allclose(back, plain[:4].double(), atol=1e-3)


def test_training_on_a_plain_release_reaches_most_of_the_value():
    assert cell(TrainOnRelease(epochs=10), epochs=10).risk["statistical_share"] > 0.8
    assert cell(GuessClass(), epochs=10).risk["statistical_share"] < 0.1
    assert cell(KnowsClass(), epochs=10).risk["statistical_share"] > 1


def test_a_simulated_inverter_works_where_the_key_does_not_matter():
    kind = {"hidden": 64, "epochs": 30, "adaptive": True}
    assert cell(TrainedInverter(source="simulate", pairs=0, **kind)).risk["explained_variance"] > 0.4
    assert cell(TrainedInverter(source="pairs", pairs=200, **kind)).risk["explained_variance"] > 0.4


def test_logit_scaled_confidence():
    logits = torch.randn((5, 4), generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 3, 1, 2, 2])
    p = logits.double().softmax(dim=1).gather(1, y.unsqueeze(1)).squeeze(1)
    assert torch.allclose(scaled_confidence(logits, y), p.log() - (1 - p).log())
    assert scaled_confidence(torch.tensor([[800.0, 0.0]]), torch.tensor([0])) == 800.0  # no probability overflows


@pytest.mark.slow
def test_classifiers_of_a_release_memorise_its_rows():
    outcome = cell(LiraLogits(shadows=8, hidden=64, epochs=60, adaptive=True), dataset=WRITERS)
    assert outcome.risk["attack_auc"] > 0.55
    assert outcome.diagnostics["worst_decile_record_auc"] > outcome.diagnostics["worst_decile_record_auc_by_chance"]


@pytest.mark.parametrize(
    ("defense", "low", "high"), [(NoDefense(), 0.8, 1.0), (Memoriser(share=0.0, noise=0.05), 0.2, 0.8)]
)
def test_a_classifier_of_releases_detects_an_outlier(defense, low, high):  # 0.5 and three standard errors, 0.1 each
    threat = Groundhog(records=2, trials=8, shadows=20, components=5, trees=50, adaptive=True)
    outcome = cell(threat, defense)
    assert low <= outcome.risk["attack_auc"] <= high
    assert outcome.diagnostics["worst_record_auc"] >= outcome.risk["attack_auc"] - 0.1
