from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.errors import AccessError, ConfigError
from benchmark.settings.deployment.games.inputs import AdversarialExamples
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.service.defense import ServiceDefense
from benchmark.settings.service.games.outputs import OutputThreat, ProviderThreat
from benchmark.settings.service.setting import Service
from benchmark.settings.stack import UniversalDefense
from benchmark.threats.reconstruction.output_controls import ClassMeanImage, Copy, MeanImage
from benchmark.training.loop import train
from tests.benchmark.helpers import context, digits_like


def service(**changes) -> Service:
    options = {"epochs": 15, "lr": 1e-3, "victims": 20, "references": 3, "population": 2, "false_alarm_rate": 0.25}
    return Service(**(options | changes))


class Looker(OutputThreat):
    """Threat that keeps what it saw and guesses grey images."""

    family = "reconstruction"
    headline = "ssim"

    def __init__(self, *knowledge: str) -> None:
        super().__init__()
        self.knowledge = frozenset(knowledge)

    def attack(self, surface, rng):
        self.seen = surface
        return Reconstruction(torch.full((len(surface.outputs), 1, *surface.shape), 0.5))


class Lazy(ProviderThreat):
    """Provider that supplies a model that was never trained, and keeps a module that it marks."""

    family = "reconstruction"
    headline = "ssim"

    def secret(self, view):
        return nn.Linear(view.num_classes, 1)

    def provide(self, model, secret, view, rng):
        self.view = view
        with torch.no_grad():
            secret.bias.fill_(7.0)

    def attack(self, surface, rng):
        self.seen = surface
        return Reconstruction(torch.zeros(len(surface.outputs), 1, *surface.shape))


class Faithful(Lazy):
    """Provider that trains as an honest one would, with its own batches."""

    def provide(self, model, secret, view, rng):
        train(model, view.data.x, view.data.y, epochs=view.epochs, rng=rng)


class Negated(ServiceDefense):
    def reveal(self, logits):
        return -logits


class Auditor(ServiceDefense):
    def screen_model(self, model, data):
        return model(data.x).std().item()


def test_the_user_reveals_outputs_of_private_inputs():
    threat = Looker("provider")
    outcome = service().play(context(threat))
    assert threat.seen.outputs.shape == (20, 10)
    assert outcome.utility["test_accuracy"] > 0.5
    assert outcome.cost["bytes_sent"] == 40
    assert threat.seen.secret is None
    assert "attacked_accuracy" not in outcome.utility and "suspicion" not in outcome.diagnostics


def test_a_defense_changes_what_is_revealed_and_so_the_accuracy():
    plain, negated = Looker(), Looker()
    service().play(context(plain))
    outcome = service().play(context(negated, Negated()))
    assert torch.equal(negated.seen.outputs, -plain.seen.outputs)
    assert outcome.utility["test_accuracy"] < 0.1


def test_a_supplied_model_takes_the_honest_ones_place_and_its_secret_comes_back():
    threat = Lazy()
    outcome = service().play(context(threat))
    assert outcome.utility["attacked_accuracy"] < 0.3 < outcome.utility["test_accuracy"]
    assert threat.seen.secret.bias.item() == 7


def test_a_provider_that_trains_honestly_supplies_a_good_model():
    assert service().play(context(Faithful())).utility["attacked_accuracy"] > 0.5


def test_what_a_provider_trained_is_shared_by_cells_that_differ_in_the_defense_unless_it_is_adaptive():
    keys = []

    def cache(key, build):
        keys.append(key) if "provider" in key[0] else None
        return build()

    service().play(context(Lazy(), cache=cache))
    service().play(context(Lazy(adaptive=True), cache=cache))
    assert [key[0] for key in keys] == ["honest provider", "dishonest provider"] * 2
    assert "threat" not in keys[0] and "defense" not in keys[0]
    assert "threat" in keys[1] and "defense" not in keys[1]
    assert "defense" not in keys[3], "for none of its hooks changes what is revealed"
    service().play(context(Lazy(adaptive=True), Negated(), cache=cache))
    assert "defense" in keys[5]


def test_a_remembered_provider_gives_the_same_outcome():
    kept = {}

    def cache(key, build):
        if key not in kept:
            kept[key] = build()
        return kept[key]

    threat = Faithful()
    first = service().play(context(threat, cache=cache))
    outputs = threat.seen.outputs
    again = Faithful()
    second = service().play(context(again, cache=cache))
    assert not hasattr(again, "view")
    assert torch.equal(outputs, again.seen.outputs)
    assert first.utility == second.utility


class Noisy(ServiceDefense):
    def reveal(self, logits):
        return logits + torch.randn_like(logits)


class Novice(ServiceDefense):
    """Defense that suspects models that are unsure."""

    def screen_model(self, model, data):
        return -model(data.x).std().item()


def test_both_populations_are_audited():
    outcome = service().play(context(Lazy(), Auditor()))
    assert outcome.diagnostics["suspicion"] < outcome.diagnostics["suspicion_of_honest"]
    assert outcome.diagnostics["detection_auc"] == 0


def test_a_refused_model_reveals_nothing_and_serves_nobody():
    bare, screened = (service().play(context(Lazy(), d)) for d in (UniversalDefense(), Novice()))
    told = screened.diagnostics
    assert told["detection_power"] == told["detection_auc"] == told["detection_tpr_at_5_fpr"] == 1
    assert screened.utility["attacked_accuracy"] == 0
    assert told["psnr_db_if_admitted"] == pytest.approx(bare.risk["psnr_db"])
    assert screened.risk["r_ridge"] == pytest.approx(service().play(context(MeanImage())).risk["r_ridge"], abs=0.1)
    served = bare.utility["test_accuracy"] * (1 - told["false_alarm_rate"])
    assert screened.utility["test_accuracy"] == pytest.approx(served)


def test_an_honest_provider_is_screened_like_everybody_else():
    told = service().play(context(Looker(), Auditor())).diagnostics
    assert told["detection_auc"] == 0.5
    assert told["detection_power"] == told["false_alarm_rate"]


def test_every_member_of_a_population_is_trained_once_and_for_itself():
    kept = {}

    def cache(key, build):
        if key not in kept:
            kept[key] = build()
        return kept[key]

    service().play(context(Faithful(), Auditor(), cache=cache))
    names = [key[0] for key in kept]
    assert [f"reference {number}" in names for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert {"honest provider", "honest provider 1", "dishonest provider", "dishonest provider 1"} < {*names}
    assert len(kept["suspicion of the supplied", *SCREENED, "threat"]["suspicions"].unique()) == 2
    count = len(kept)
    service().play(context(Faithful(), Auditor(), cache=cache))
    assert len(kept) == count


SCREENED = ("dataset", "model", "setting", "scale", "defense")


def test_screening_needs_samples_for_references_and_for_judging():
    play = context(Lazy(), Auditor())
    for role in ("public", "calibration"):
        empty = replace(play.data, **{role: play.data.public[:0]})
        with pytest.raises(ConfigError, match=f"sizes.{role}"):
            service().play(replace(play, data=empty))


def test_a_treatment_may_draw_noise_and_two_runs_agree():
    threats = Looker(), Looker()
    for threat in threats:
        service(epochs=2).play(context(threat, Noisy()))
    assert torch.equal(threats[0].seen.outputs, threats[1].seen.outputs)


@pytest.mark.parametrize(
    ("field", "grant"), [("provider", "provider"), ("model", "provider"), ("public", "public"), ("truth", "truth")]
)
def test_what_is_not_granted_is_hidden(field, grant):
    threat = Looker()
    service().play(context(threat))
    with pytest.raises(AccessError, match=grant):
        getattr(threat.seen, field)


def test_only_an_adaptive_provider_knows_the_treatment_of_outputs():
    naive, adaptive = Lazy(), Lazy(adaptive=True)
    service().play(context(naive, Negated()))
    service().play(context(adaptive, Negated()))
    with pytest.raises(AccessError, match="mechanism"):
        _ = naive.view.reveal
    assert adaptive.view.reveal(torch.ones(1, 1)) == -1


def test_knowing_the_provider_does_not_tell_the_treatment_of_outputs():
    threat = Looker("provider")
    service().play(context(threat, Negated()))
    with pytest.raises(AccessError, match="mechanism"):
        _ = threat.seen.provider.reveal


class Guessing(Looker):
    """Threat that guesses one given image for every input."""

    def __init__(self, image):
        super().__init__()
        self.image = image

    def attack(self, surface, rng):
        return Reconstruction(self.image.expand(len(surface.outputs), 1, *surface.shape))


def test_the_papers_risk_measures_by_the_whole_training_pool():
    pool = digits_like(900, 7)
    cell = context(Guessing(pool.x.mean(dim=0)))
    risk = service().play(replace(cell, data=replace(cell.data, training_pool=lambda: pool))).risk
    assert risk["r"] == pytest.approx(1, abs=1e-6), "the pool's mean is no better than itself"
    own = context(Guessing(pool.x.mean(dim=0)))
    assert service().play(own).risk["r"] != pytest.approx(1, abs=1e-3), "the provider's own samples have another mean"


@pytest.mark.ci
def test_the_batch_size_is_the_honest_and_the_dishonest_providers():
    dishonest = Lazy()
    service(batch_size=11).play(context(dishonest))
    assert dishonest.view.budget == {"epochs": 15, "lr": 1e-3, "batch_size": 11, "recipe": None}
    answers = []
    for size in (11, 11, 200):
        threat = Looker()
        service(batch_size=size).play(context(threat))
        answers.append(threat.seen.outputs)
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])


def test_controls_bound_the_scale():
    mean, by_class, copy = (service().play(context(threat())).risk for threat in (MeanImage, ClassMeanImage, Copy))
    assert mean["r_ridge"] == pytest.approx(1, abs=0.1)
    assert mean["explained_variance"] == pytest.approx(0, abs=0.1) and copy["explained_variance"] == pytest.approx(1)
    assert 0.1 < by_class["explained_variance"] < 0.9
    assert mean["psnr_db"] + 3 < by_class["psnr_db"] < copy["psnr_db"] == 60
    assert copy["ssim"] == pytest.approx(1) and copy["label_accuracy"] == 1


def test_a_guess_of_another_kind_is_a_fault():
    class Stranger(Looker):
        def attack(self, surface, rng):
            return AdversarialExamples(torch.zeros(1), torch.zeros(1, dtype=torch.bool))

    with pytest.raises(TypeError, match="cannot score a AdversarialExamples"):
        service().play(context(Stranger()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"victims": 1}, "at least 2 or null"),
        ({"references": 2}, "references=2 models cannot give a p-value as low as"),
        ({"population": 0}, "population must be a whole number of at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        service(**change)
