from dataclasses import replace

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.none import NoDefense
from benchmark.errors import AccessError, ConfigError, Diverged
from benchmark.settings.deployment.defense import DeploymentDefense
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputThreat
from benchmark.settings.deployment.setting import Deployment
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.stack import UniversalDefense
from benchmark.training.loop import predict
from tests.benchmark.helpers import context, digits_like


def deployment(**changes) -> Deployment:
    return Deployment(
        **(
            {"epochs": 8, "lr": 3e-3, "victims": 5, "targets": None, "false_alarm_rate": 0.1, "radius": 1.0}
            | {"batch": 20, "draws": 4}
            | changes
        )
    )


def nothing(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.bool)


class Looker(InputThreat):
    """Threat that keeps what it saw and answers with what ``alter`` makes of the clean inputs."""

    family = "evasion"
    headline = "attack_success"

    def __init__(self, *knowledge: str, alter=lambda surface: surface.x, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.knowledge |= frozenset(knowledge)
        self.alter = alter

    def attack(self, surface, rng):
        self.seen = surface
        altered = self.alter(surface)
        return AdversarialExamples(altered, nothing(len(altered)))


def of_target(surface):
    """Return a sample of the target class in place of each input."""
    own = surface.attacker
    return torch.stack([own.x[own.y == target][0] for target in surface.targets])


class Bright(DeploymentDefense):
    """Defense that suspects bright inputs."""

    def screen_inputs(self, x):
        return x.flatten(1).mean(dim=1)


class Loud(DeploymentDefense):
    def facts(self):
        return {"loudness": 11}

    def fit(self, fresh, data, train):
        return train(fresh(), data.x, data.y, epochs=1)


def test_every_victim_is_rightly_classified_and_meets_every_other_class():
    threat = Looker()
    deployment().play(context(threat))
    seen = threat.seen
    assert seen.x.shape == (45, 1, 8, 8)
    assert torch.equal(predict(seen.model, seen.x).argmax(dim=1), seen.y)
    for victim in range(5):
        rows = slice(9 * victim, 9 * victim + 9)
        assert (seen.x[rows] == seen.x[9 * victim]).all()
        assert {*seen.targets[rows].tolist(), int(seen.y[9 * victim])} == set(range(10))


def test_fewer_targets_are_drawn_from_the_other_classes():
    threat = Looker()
    deployment(targets=3).play(context(threat))
    assert len(threat.seen.targets) == 15
    assert (threat.seen.targets != threat.seen.y).all()
    assert all(len(set(part.tolist())) == 3 for part in threat.seen.targets.split(3))


def test_unaltered_inputs_are_no_success_and_samples_of_the_target_are():
    idle = deployment().play(context(Looker()))
    swapped = deployment().play(context(Looker("attacker_data", alter=of_target)))
    assert idle.risk == {"attack_success": 0, "success_within_radius": 0, "error_rate": 0}
    assert "l2" not in idle.diagnostics
    assert swapped.risk["attack_success"] > 0.9
    assert swapped.risk["error_rate"] >= swapped.risk["attack_success"]
    assert swapped.diagnostics["l2"] > 1
    assert swapped.utility["test_accuracy"] > 0.9
    assert swapped.cost["seconds"] > 0


def test_the_pictures_show_original_altered_and_difference():
    outcome = deployment().play(context(Looker("attacker_data", alter=of_target)))
    assert outcome.captions["adversarial"] == ["original", "adversarial", "difference"]
    original, altered, difference = outcome.pictures["adversarial"]
    assert original.shape == (5, 1, 8, 8)
    torch.testing.assert_close(2 * difference - 1, altered - original)


def test_the_defense_fits_the_classifier_and_may_train_for_another_time():
    plain, short = (deployment().play(context(Looker(), d)) for d in (UniversalDefense(), Loud()))
    assert short.utility["test_accuracy"] < plain.utility["test_accuracy"]


def test_none_equals_the_base_and_two_runs_agree_bit_for_bit():
    threats = Looker("attacker_data", alter=of_target), Looker("attacker_data", alter=of_target)
    first, again = (
        deployment().play(context(t, d)) for t, d in zip(threats, (NoDefense(), UniversalDefense()), strict=True)
    )
    assert first.risk == again.risk
    assert first.utility == again.utility
    for name, tensor in threats[0].seen.model.state_dict().items():
        assert torch.equal(tensor, threats[1].seen.model.state_dict()[name])


def test_cells_that_differ_in_the_defense_share_victims_and_their_targets_where_both_are_right():
    one, two = Looker(), Looker()
    deployment(victims=40, targets=2).play(context(one))
    deployment(victims=40, targets=2).play(context(two, Loud()))

    def pairs(seen):
        return {(image.numpy().tobytes(), int(target)) for image, target in zip(seen.x, seen.targets, strict=True)}

    def images(seen):
        return {image for image, _ in pairs(seen)}

    both = images(one.seen) & images(two.seen)
    assert len(both) > 10
    assert {p for p in pairs(one.seen) if p[0] in both} == {p for p in pairs(two.seen) if p[0] in both}


def test_the_classifier_is_trained_once_for_all_threats_and_keeps_its_cost():
    known, built = {}, []

    def cache(key, build):
        if key not in known:
            built.append(key)
            known[key] = build()
        return known[key]

    seconds = {deployment().play(context(threat, cache=cache)).cost["seconds"] for threat in (Looker(), Looker())}
    assert [key[0] for key in built] == ["deployment", "sensitivity"]
    assert len(seconds) == 1
    assert all("threat" not in key for key in built)
    assert "defense" not in built[0], "a defense that leaves training alone shares the classifier"


def test_a_screen_costs_accuracy_by_false_alarms_and_turns_altered_inputs_away():
    white = Looker(alter=lambda surface: torch.ones_like(surface.x))
    bare, screened = (deployment().play(context(white, d)) for d in (UniversalDefense(), Bright()))
    assert bare.risk["error_rate"] > 0.5
    assert screened.risk == {"attack_success": 0, "success_within_radius": 0, "error_rate": 0}
    assert 0 < screened.diagnostics["false_alarm_rate"] < 0.3
    lost = bare.utility["test_accuracy"] - screened.utility["test_accuracy"]
    assert 0 < lost <= screened.diagnostics["false_alarm_rate"] + 1e-9


def test_a_screen_without_calibration_inputs_is_refused():
    play = context(Looker(), Bright())
    empty = Split(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ConfigError, match=r"dataset.sizes.calibration"):
        deployment().play(replace(play, data=replace(play.data, calibration=empty)))


@pytest.mark.parametrize(
    ("field", "grant"), [("published", "mechanism"), ("public", "public"), ("attacker", "attacker_data")]
)
def test_what_is_not_granted_is_hidden(field, grant):
    threat = Looker()
    deployment(epochs=1).play(context(threat))
    with pytest.raises(AccessError, match=grant):
        getattr(threat.seen, field)


def test_an_adaptive_threat_is_told_what_the_defense_publishes():
    threat = Looker(adaptive=True)
    deployment().play(context(threat, Loud()))
    assert threat.seen.published == {"loudness": 11}


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda surface: surface.x + 0.5, r"in \[0, 1\]"),
        (lambda surface: surface.x * torch.nan, "finite"),
        (lambda surface: surface.x[:1], "asked for were"),
    ],
)
def test_invalid_inputs_are_a_fault_of_the_threat(alter, message):
    with pytest.raises(ValueError, match=message):
        deployment().play(context(Looker(alter=alter)))


def test_a_guess_of_another_kind_is_a_fault():
    class Stranger(Looker):
        def attack(self, surface, rng):
            return Reconstruction(torch.zeros(1, 1, 2))

    with pytest.raises(TypeError, match="cannot score a Reconstruction"):
        deployment(epochs=1).play(context(Stranger()))


def test_a_classifier_that_is_never_right_is_no_result():
    play = context(Looker())
    wrong = digits_like(20)
    with pytest.raises(Diverged, match="right about no test input"):
        deployment().play(replace(play, data=replace(play.data, test=Split(wrong.x, (wrong.y + 1) % 10))))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"victims": 0}, "at least 1"), ({"targets": 0}, "at least 1"), ({"false_alarm_rate": 1.0}, r"in \[0, 1\)")],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        deployment(**change)


def test_more_victims_than_test_inputs_are_refused():
    with pytest.raises(ConfigError, match="raise dataset.sizes.test"):
        deployment(victims=101).play(context(Looker()))
