"""Stimuli: closed forms of the losses, properties of the noise, and what the mechanisms release."""

import math
from functools import partial

import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from benchmark.cell import Cell, play
from benchmark.data.base import Split
from benchmark.data.digits_writers import DigitsWriters
from benchmark.defenses.none import NoDefense
from benchmark.defenses.release.anonymous_stimuli import AnonymousStimuli, ReversalTeacher, reversed_gradient
from benchmark.defenses.release.stimuli import Stimuli
from benchmark.errors import ConfigError, Refused
from benchmark.metrics.identity import claims
from benchmark.models.by_shape import network_for
from benchmark.models.mlp import MLP
from benchmark.settings.release.measures.agreement import Agreement, kappa
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.identity_inference.copies import IdentityCopies, IdentityTeachers
from benchmark.threats.membership_inference.leave_one_out import LeaveOneOut
from benchmark.training import stimulus_optimisation
from benchmark.training.loop import predict, train

NET = partial(MLP, hidden=[32], activation="relu")
WRITERS = DigitsWriters(sizes={"owner": 440, "attacker": 220, "public": 100, "calibration": 220}, insiders=10)
OPTIONS = {
    "epochs": 8,
    "width": 1.0,
    "variant": "direct",
    "layer": "logits",
    "rows": None,
    "steps": 20,
    "lr": 0.1,
    "exponent": 1.0,
    "l2": 0.01,
    "variation": 0.05,
    "generators": 2,
    "spread": 0.1,
    "moments": None,
    "publish_teacher": False,
}
PLAIN = {**OPTIONS, "noise_multiplier": 0.0, "max_norm": 1.0, "delta": 1e-4}
HIDING = {**OPTIONS, "suppress": 5.0, "identity_epochs": 12, "identity_widths": [1.0, 0.75], "poi": None}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def signals(n: int = 160, persons: int = 4) -> Split:
    """Return sines: the class is the frequency, the person the phase."""
    y, group = torch.arange(n) % 2, torch.arange(n) // 2 % persons
    time = torch.arange(48) / 48
    phase = group[:, None] / persons
    x = 0.5 + 0.3 * torch.sin(2 * math.pi * ((2 + 4 * y[:, None]) * time + phase))
    x = x + 0.05 * torch.randn((n, 48), generator=rng(1))
    return Split(x.unsqueeze(1), y, group=group)


def test_divergences_have_their_closed_forms():
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(stimulus_optimisation.kl_divergence(target, logits), torch.tensor([math.log(2), 0.0]))
    assert torch.allclose(stimulus_optimisation.anonymity_loss(torch.full((3, 7), 2.0)), torch.zeros(3), atol=1e-6)
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    expected = stimulus_optimisation.kl_divergence(torch.full((1, 3), 1 / 3), logits)
    assert torch.allclose(stimulus_optimisation.anonymity_loss(logits), expected, atol=1e-6)
    belief = -torch.log(1 - logits.softmax(dim=1)[:, 2])
    assert torch.allclose(stimulus_optimisation.person_loss(logits, 2), belief, atol=1e-6)
    assert torch.equal(stimulus_optimisation.person_loss(torch.ones(2, 1), 0), torch.zeros(2))


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_wanted_values_mix_at_most_two_outputs(outputs):
    q = stimulus_optimisation.target_outputs(200, outputs, rng())
    assert q.shape == (200, outputs) and torch.allclose(q.sum(dim=1), torch.ones(200))
    assert ((q > 0).sum(dim=1) <= 2).all() and (q >= 0).all()


def test_coloured_noise_is_standardised_and_falls_with_frequency():
    white, red = (stimulus_optimisation.coloured_noise(100, (1, 128), exponent, rng()) for exponent in (0.0, 1.0))
    for noise in (white, red):
        assert torch.allclose(noise.mean(dim=2), torch.zeros(100, 1), atol=1e-5)
        assert torch.allclose(noise.std(dim=2), torch.ones(100, 1), atol=1e-5)
    power = torch.fft.rfft(red).abs().square().mean(dim=(0, 1))
    assert power[1:5].mean() > 50 * power[30:60].mean()
    assert stimulus_optimisation.total_variation(red).mean() < stimulus_optimisation.total_variation(white).mean() / 3
    assert stimulus_optimisation.coloured_noise(3, (2, 8, 8), 1.0, rng()).shape == (3, 2, 8, 8)
    assert stimulus_optimisation.coloured_noise(3, (9,), 1.0, rng()).shape == (3, 9)


def test_total_variation_of_a_ramp():
    ramp = torch.arange(5.0).view(1, 1, 5)
    assert stimulus_optimisation.total_variation(ramp).item() == 1
    assert stimulus_optimisation.total_variation(torch.arange(5.0).view(1, 5)).item() == 0
    assert stimulus_optimisation.total_variation(ramp.unsqueeze(2).expand(1, 1, 3, 5)).item() == 1


def test_excitation_reaches_the_wanted_values_of_a_linear_teacher():
    target = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    x = stimulus_optimisation.optimise_stimuli(
        lambda x: x,
        target,
        torch.zeros(2, 2),
        steps=300,
        lr=0.05,
        penalty=stimulus_optimisation.Regulariser(0.0, 0.0),
        extra=lambda x: x.new_zeros(len(x)),
    )
    assert torch.allclose(x.softmax(dim=1), target, atol=1e-2)


def test_diversity_counts_collapse_as_nothing():
    z = torch.randn((6, 3), generator=rng())
    assert stimulus_optimisation.diversity(z, torch.ones(6, 1, 4)).item() == 0
    assert stimulus_optimisation.diversity(z, 1000 * torch.randn((6, 1, 4), generator=rng())).item() == 1


def test_reversed_gradients_leave_values_alone():
    x = torch.tensor([2.0], requires_grad=True)
    y = reversed_gradient(x, 3.0)
    y.backward()
    assert y.item() == 2 and x.grad.item() == -3
    both = ReversalTeacher(network_for((1, 48), 2), 4, 1.0)
    assert both(torch.rand(3, 1, 48)).shape == (3, 6)


@pytest.mark.parametrize("changes", [{}, {"variant": "generator", "lr": 1e-2}, {"layer": "penultimate"}, {"steps": 0}])
def test_stimuli_come_with_soft_labels_and_without_persons(changes):
    torch.manual_seed(0)
    release = Stimuli(**{**PLAIN, "epochs": 1, "rows": 30, **changes}).release(signals(), rng())
    assert release.x.shape == (30, 1, 48) and release.y.shape == (30, 2)
    assert torch.allclose(release.y.sum(dim=1), torch.ones(30)) and torch.isfinite(release.x).all()
    assert release.source is None and release.sensitive is None and release.epsilon is None


@pytest.mark.ci
def test_a_student_of_stimuli_meets_real_signals():
    torch.manual_seed(0)
    private, test = signals(), signals(80)
    release = Stimuli(**{**PLAIN, "epochs": 30, "rows": 400}).release(private, rng())
    student = train(network_for((1, 48), 2, 0.5), release.x, release.y, epochs=20, rng=rng(3))
    assert (predict(student, test.x).argmax(dim=1) == test.y).double().mean() > 0.8


@pytest.mark.ci
def test_suppression_hides_people_from_a_network_of_another_kind():
    private = signals()
    attacker = train(NET(shape=(1, 48), num_classes=4), private.x, private.group, epochs=30, rng=rng(5))
    found = []
    for suppress in (0.0, 5.0):
        torch.manual_seed(0)
        hidden = AnonymousStimuli(**{**HIDING, "suppress": suppress, "steps": 30, "reversal": 0.0})
        release = hidden.release(private, rng())
        found.append(claims(predict(attacker, release.x).softmax(dim=1))["mean_max_probability"])
    assert found[1] < found[0]


def test_a_private_teacher_reports_its_epsilon_and_needs_given_moments():
    torch.manual_seed(0)
    private = Stimuli(**{**PLAIN, "epochs": 2, "noise_multiplier": 2.0, "moments": [0.5, 0.2], "rows": 10})
    release = private.release(signals(), rng())
    assert 0 < release.epsilon < 100 and release.delta == 1e-4
    with pytest.raises(ConfigError, match="moments"):
        Stimuli(**{**PLAIN, "noise_multiplier": 2.0})


def test_nobody_is_suppressed_where_nobody_is_named():
    data = signals(20)
    with pytest.raises(Refused, match="groups"):
        AnonymousStimuli(**HIDING, reversal=1.0).release(Split(data.x, data.y), rng())


def test_a_teacher_is_handed_out_only_if_published():
    for published in (False, True):
        stimuli = Stimuli(**{**PLAIN, "epochs": 1, "rows": 4, "steps": 1, "publish_teacher": published})
        stimuli.release(signals(20), rng())
        assert set(stimuli.models()) == ({"teacher"} if published else set())


def test_kappa_is_scikit_learns():
    a, b = torch.randint(3, (50,), generator=rng()), torch.randint(3, (50,), generator=rng(1))
    assert kappa(a, b, 3) == pytest.approx(cohen_kappa_score(a, b))
    assert kappa(torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), 2) == 0


def played(threat, defense, **measures):
    setting = ReleaseSetting(epochs=1, examiner_epochs=1, victims=50, candidates=50, measures=measures)
    return play(Cell(WRITERS, NET, setting, threat, [defense], 0))[0]


@pytest.mark.parametrize("adaptive", [False, True])
def test_leaving_out_a_participant_shows_in_the_data_themselves(adaptive):
    outcome = played(
        LeaveOneOut(epochs=40, participants=6, adaptive=adaptive), NoDefense(), agreement=Agreement(epochs=1)
    )
    assert outcome.risk["attack_auc"] > 0.7
    assert outcome.diagnostics["release_spread"] == pytest.approx(1, abs=0.1) and "kappa" in outcome.utility


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_release_of_one_person_is_that_persons(adaptive):
    assert played(IdentityTeachers(epochs=40, adaptive=adaptive), NoDefense()).risk["identity_accuracy"] > 0.5


def test_copies_meet_stimuli():
    quick = Stimuli(**{**PLAIN, "epochs": 1, "steps": 1})
    assert "confident_share" in played(IdentityCopies(epochs=1, adaptive=True), quick).risk
