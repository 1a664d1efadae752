import math

import jaxtyping
import pytest
import torch

from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.none import NoDefense
from benchmark.errors import ConfigError, Diverged
from benchmark.metrics.images import mse
from benchmark.outcome import Outcome
from benchmark.settings.base import Game, Setting
from benchmark.settings.collaboration.defense import FederatedDefense
from benchmark.settings.collaboration.games.contributions import Contribution, ContributionThreat
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.deployment.setting import Deployment
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.settings.service.setting import Service
from benchmark.settings.stack import Stack, UniversalDefense
from benchmark.settings.threat import Guess
from benchmark.threats.gradient_leakage.controls import Copy, MeanImage
from benchmark.threats.gradient_leakage.dlg import DLG
from tests.benchmark.helpers import NoThreat, collaboration, context, observe


class FlipSign(ContributionThreat):
    family = "poisoning"

    def attack(self, surface, rng):
        return Contribution(-5 * surface.own)


def fast_dlg(**changes) -> DLG:
    return DLG(**(dict(iterations=60, restarts=1, labels="restored", observations=1, adaptive=False) | changes))


def test_an_uploads_cell_reports_utility_risk_cost_and_a_picture():
    outcome = collaboration().play(context(fast_dlg()))
    assert outcome.utility["test_accuracy"] > 0.8
    assert outcome.risk["ssim"] > 0.9
    assert outcome.risk["label_accuracy"] == 1.0
    assert outcome.cost["rounds"] == 15 and outcome.cost["bytes_sent"] > 0
    assert outcome.pictures["reconstruction"].shape == (2, 2, 1, 8, 8)
    assert len(outcome.curves["test_accuracy by round"]) == 15


def test_none_equals_the_base_and_two_runs_agree_bit_for_bit():
    first, again = (collaboration().play(context(fast_dlg(), d)) for d in (NoDefense(), UniversalDefense()))
    assert first.risk == again.risk
    assert first.utility == again.utility
    assert first.curves == again.curves


def test_controls_bound_the_risk():
    top, bottom = (collaboration().play(context(threat)).risk["ssim"] for threat in (Copy(), MeanImage()))
    assert top == pytest.approx(1.0, abs=1e-5)
    assert bottom < 0.7


@pytest.mark.ci
def test_more_noise_cannot_help_the_attack():
    risks = [
        collaboration(victims=4)
        .play(context(fast_dlg(), GradientNoise(std=std, distribution="gaussian")))
        .risk["psnr_db"]
        for std in (0.001, 0.03, 1.0)
    ]
    assert risks[0] > risks[1] > risks[2]


def test_cells_that_differ_in_the_defense_share_victims_and_initial_weights():
    one, two = (observe(d) for d in (UniversalDefense(), GradientNoise(std=1.0, distribution="gaussian")))
    assert torch.equal(one.truth, two.truth)
    assert torch.equal(one.params, two.params)
    assert not torch.equal(one.uploads, two.uploads)


def test_the_honest_collaboration_is_trained_once_for_all_threats():
    built = []
    known = {}

    def cache(key, build):
        if key not in known:
            built.append(key)
            known[key] = build()
        return known[key]

    for threat in (fast_dlg(), MeanImage(), Copy()):
        collaboration().play(context(threat, cache=cache))
    assert len(built) == 1
    assert "threat" not in built[0]


def test_dp_reports_what_the_accountant_computed():
    private = DPSGD(max_norm=1.0, noise_multiplier=1.0, delta=1e-3)
    outcome = collaboration().play(context(MeanImage(), private))
    expected, delta = private.epsilon(samples=50, batch_size=16, steps=15)
    assert outcome.cost["epsilon"] == expected
    assert outcome.cost["delta"] == delta
    assert math.isfinite(expected)


def test_a_trained_model_state_attacks_the_trained_model():
    untrained, trained = (collaboration(model_state=s).play(context(fast_dlg())).risk for s in ("untrained", "trained"))
    assert untrained != trained


def test_poison_costs_accuracy_and_the_clean_run_is_the_utility():
    threat = FlipSign(fraction=0.5, follows_exchange=True)
    outcome = collaboration().play(context(threat))
    clean = collaboration().play(context(MeanImage()))
    assert outcome.utility["test_accuracy"] == clean.utility["test_accuracy"]
    assert outcome.risk["accuracy_drop"] > 0.3
    assert outcome.risk["accuracy_drop"] == pytest.approx(
        outcome.utility["test_accuracy"] - outcome.utility["attacked_accuracy"]
    )
    assert outcome.diagnostics["malicious_parties"] == 2


def test_no_malicious_party_changes_nothing():
    outcome = collaboration().play(context(FlipSign(fraction=0.0, follows_exchange=True)))
    assert outcome.risk["accuracy_drop"] == 0


def test_divergence_is_not_a_result():
    class Exploding(FederatedDefense):
        def aggregate(self, uploads, round):
            return uploads.mean(0) * float("inf")

    with pytest.raises(Diverged, match="lower setting.lr"):
        collaboration().play(context(MeanImage(), Exploding()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_state": "half"}, "untrained or trained"),
        ({"fraction": 0.0}, r"in \(0, 1\]"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        collaboration(**change)


def test_more_victims_than_private_samples_are_refused():
    with pytest.raises(ConfigError, match="lower setting.victims"):
        collaboration(victims=300).play(context(MeanImage()))


def test_an_impossible_fraction_is_refused():
    with pytest.raises(ConfigError, match=r"threat.fraction must be in \[0, 1\)"):
        FlipSign(fraction=1.0, follows_exchange=True)


# -- Tests that hold for the games of every setting
SETTINGS = (Collaboration, Deployment, ReleaseSetting, Service)
GAMES = [(setting, game) for setting in SETTINGS for game in setting.games]


@pytest.mark.parametrize(("setting", "game"), GAMES, ids=lambda part: part.__name__)
def test_a_game_is_in_the_module_of_its_surface_and_has_hooks_that_exist(
    setting: type[Setting], game: type[Game]
) -> None:
    assert game.__module__ == f"benchmark.settings.{setting.name}.games.{game.surface}"
    assert game.hooks and game.hooks <= set(UniversalDefense.declared_hooks())
    assert issubclass(game.guess, Guess)


@pytest.mark.parametrize("setting", SETTINGS)
def test_surfaces_are_those_of_the_games(setting: type[Setting]) -> None:
    assert len(setting.surfaces) == len(setting.games)
    assert setting.surfaces == {game.surface: game.hooks for game in setting.games}


def test_a_setting_plays_the_game_of_the_threat_s_surface() -> None:
    class First(Game[str]):
        surface = "first"
        hooks = frozenset()

        def play(self, context):
            return Outcome(diagnostics={self.honest: self.surface})

    class Second(First):
        surface = "uploads"

    class Both(Setting):
        games = (First, Second)
        honest = "played"

    assert Both().play(context(NoThreat())).diagnostics == {"played": "uploads"}


def test_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        mse(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(jaxtyping.TypeCheckError):
        MembershipScores(torch.zeros(2, 3))
    with pytest.raises(jaxtyping.TypeCheckError):
        Stack([UniversalDefense()]).protect(torch.zeros(3), None)
