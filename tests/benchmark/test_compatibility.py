import pytest

from benchmark.compatibility import refusal
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.deployment.adversarial_training import AdversarialTraining
from benchmark.defenses.deployment.defensive_distillation import DefensiveDistillation
from benchmark.defenses.none import NoDefense
from benchmark.settings.collaboration.defense import FederatedDefense
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.deployment.setting import Deployment
from benchmark.threats.evasion.gradient_steps import PGD
from benchmark.threats.gradient_leakage.analytic import AnalyticFC
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.shift.natural import Natural


class Aggregator(FederatedDefense):
    def aggregate(self, uploads, round):
        return uploads.sum(0)


class Elsewhere(DLG):
    setting = "deployment"


def test_a_defense_that_acts_on_the_surface_meets_the_threat():
    assert refusal(Collaboration, DLG, [GradientNoise]) is None
    assert refusal(Collaboration, DLG, [NoDefense]) is None


def test_a_defense_that_acts_elsewhere_is_refused_with_surface_and_hooks():
    reason = refusal(Collaboration, DLG, [Aggregator])
    assert "DLG attacks the surface 'uploads'" in reason
    assert "protect" in reason and "Aggregator changes aggregate" in reason


def test_every_member_of_a_stack_must_act():
    assert "Aggregator" in refusal(Collaboration, DLG, [GradientNoise, Aggregator])


def test_a_threat_of_another_setting_is_refused():
    assert "lives in setting=deployment" in refusal(Collaboration, Elsewhere, [NoDefense])


def test_traits_of_the_model_are_held_against_the_threat():
    network = {"model.gradients": "yes"}
    assert refusal(Collaboration, AnalyticFC, [NoDefense], network | {"model.first_layer": "linear"}) is None
    assert "needs model.first_layer=linear" in refusal(
        Collaboration, AnalyticFC, [NoDefense], network | {"model.first_layer": "conv"}
    )


FOREST = {"model.gradients": "no", "dataset.shift": "natural"}


@pytest.mark.parametrize(
    ("setting", "threat", "defense"),
    [
        (Collaboration, DLG, NoDefense),
        (Deployment, PGD, NoDefense),
        (Deployment, Natural, AdversarialTraining),
        (Deployment, Natural, DefensiveDistillation),
    ],
)
def test_what_takes_gradients_of_the_model_refuses_one_without(setting, threat, defense):
    assert "needs model.gradients=yes, but here it is no" in refusal(setting, threat, [defense], FOREST)
    assert refusal(setting, threat, [defense], FOREST | {"model.gradients": "yes"}) is None


def test_a_forest_may_be_watched_for_a_shift():
    assert refusal(Deployment, Natural, [NoDefense], FOREST) is None
