"""FGSM, PGD, Carlini and Wagner's attacks and transfer, on classifiers with known results."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.settings.deployment.games.inputs import InputSurface
from benchmark.settings.deployment.setting import Deployment
from benchmark.threats.evasion.carlini_wagner import CarliniWagnerL2
from benchmark.threats.evasion.carlini_wagner_tightened import CarliniWagnerL0, CarliniWagnerLinf
from benchmark.threats.evasion.controls import RandomFeatures, Replace
from benchmark.threats.evasion.gradient_steps import PGD
from benchmark.threats.evasion.objectives import margin
from benchmark.threats.evasion.transfer import Transfer, untrained
from tests.benchmark.helpers import context, digits_like

CW = {"iterations": 100, "lr": 0.05, "initial_c": 1.0, "confidence": 0.0, "adaptive": False}


def linear(scale: float = 1.0, facts: dict | None = None) -> InputSurface:
    """Return a classifier by the sign of ``w (x - 0.5)`` in four features, of known distances to the boundary."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    w = torch.tensor([2.0, 1.0, 0.5, 0.25])
    model[1].weight.data = scale * torch.stack([w, -w]) / 2
    model[1].bias.data = scale * torch.stack([-w.sum(), w.sum()]) / 4
    x = torch.tensor([[0.6, 0.55, 0.5, 0.5], [0.55, 0.6, 0.6, 0.5]]).view(2, 1, 2, 2)
    own = Split(x[:0], torch.zeros(0, dtype=torch.int64))
    zeros = torch.zeros(2, dtype=torch.int64)
    return InputSurface(model.requires_grad_(False), x, zeros, zeros + 1, 2, facts or {}, own, own)


def gap(surface):
    """Return ``w (x - 0.5)`` of the clean inputs, (n,)."""
    return (surface.model(surface.x)[:, 0] - surface.model(surface.x)[:, 1]).detach()


W = torch.tensor([2.0, 1.0, 0.5, 0.25])


def pgd(**changes):
    options = {"loss": "ce", "eps": 0.1, "steps": 1, "step_size": 0.1, "random_start": False, "adaptive": False}
    return PGD(**(options | changes))


def test_the_margin_is_negative_where_the_target_wins():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    assert margin(logits, torch.tensor([2, 1])).tolist() == [1.0, -4.0]


@pytest.mark.parametrize("loss", ["ce", "ce_of_probs", "margin"])
def test_one_step_of_the_whole_size_is_fgsm(loss):
    surface = linear()
    guess = pgd(loss=loss)(surface, seed=0)
    torch.testing.assert_close(guess.x, surface.x - 0.1)
    assert not guess.stalled.any()


def test_inputs_that_met_their_target_are_left_out_of_further_passes():
    surface, passed = linear(), []
    near, far = surface.x
    surface = replace(surface, x=torch.stack([near, far + 0.1]))

    def logits(x):
        passed.append(len(x))
        return surface.model(x)

    attack = pgd(eps=0.5, steps=40, step_size=0.01)
    guess = attack.descend(logits, surface.x, surface.x, surface.targets)
    x = surface.x.clone()
    for _ in range(40):  # all inputs in every pass
        x.requires_grad_()
        outputs = surface.model(x)
        (slope,) = torch.autograd.grad(attack.loss(outputs, surface.targets).sum(), x)
        aiming = (outputs.argmax(dim=1) != surface.targets).view(-1, 1, 1, 1)
        x = torch.where(aiming, x - 0.01 * slope.sign(), x).detach()
    assert torch.equal(guess.x, x)
    assert passed[0] == 2 and 1 in passed and len(passed) < 40


def test_steps_stay_in_the_box_and_stop_at_success():
    surface = linear()
    guess = pgd(eps=0.12, steps=20, step_size=0.01, random_start=True)(surface, seed=0)
    assert (guess.x - surface.x).abs().max() <= 0.12 + 1e-6
    assert (surface.model(guess.x).argmax(dim=1) == 1).all()
    needed = gap(surface) / W.sum()  # the L-infinity distance to the boundary
    assert ((surface.x - guess.x).flatten(1).mean(dim=1) < needed + 0.05).all()


def test_a_saturated_softmax_stalls_the_naive_form_and_no_adaptive_one():
    masked = linear(scale=2000.0, facts={"temperature": 2000.0})
    assert pgd(loss="ce_of_probs")(masked, seed=0).stalled.all()
    for attack in (pgd(loss="ce_of_probs", adaptive=True), pgd(loss="margin"), pgd(loss="ce")):
        guess = attack(masked, seed=0)
        assert not guess.stalled.any()
        torch.testing.assert_close(guess.x, masked.x - 0.1)


def test_the_l2_attack_finds_the_nearest_point_of_the_boundary():
    surface = linear()
    guess = CarliniWagnerL2(searches=7, **CW)(surface, seed=0)
    assert (surface.model(guess.x).argmax(dim=1) == 1).all()
    nearest = gap(surface) / W.norm()
    torch.testing.assert_close((guess.x - surface.x).flatten(1).norm(dim=1), nearest, rtol=0.05, atol=0.005)


def test_the_adaptive_l2_attack_is_independent_of_the_scale_of_logits():
    plain, masked = linear(), linear(scale=1000.0, facts={"temperature": 1000.0})
    told = CarliniWagnerL2(searches=5, **CW | {"adaptive": True})(masked, seed=0)
    torch.testing.assert_close(told.x, CarliniWagnerL2(searches=5, **CW)(plain, seed=0).x, atol=1e-3, rtol=0)


def test_the_order_in_memory_changes_neither_the_result_nor_the_classifier():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 2)).requires_grad_(False)
    surface = replace(linear(), model=model, x=torch.rand(2, 3, 8, 8))
    attack = CarliniWagnerL2(searches=3, **CW | {"iterations": 30})
    plain = attack.search(model, surface.x, surface.targets)
    torch.testing.assert_close(attack(surface, seed=0).x, plain, atol=1e-4, rtol=0)
    assert (plain != surface.x).any()
    assert model[0].weight.is_contiguous()


def test_the_l2_attack_reaches_the_confidence_asked_for():
    surface = linear()
    guess = CarliniWagnerL2(searches=6, **CW | {"confidence": 0.3})(surface, seed=0)
    assert (margin(surface.model(guess.x), surface.targets) <= -0.3 + 1e-5).all()


def test_the_l0_attack_changes_the_one_feature_that_is_enough():
    surface = linear()
    guess = CarliniWagnerL0(rounds=8, freeze=0.3, **CW)(surface, seed=0)
    assert (surface.model(guess.x).argmax(dim=1) == 1).all()
    changed = (guess.x != surface.x).flatten(1)
    assert changed.sum(dim=1).tolist() == [1, 1]
    assert changed[:, 0].all(), "the feature with the largest weight"


def test_the_linf_attack_changes_every_feature_alike():
    surface = linear()
    guess = CarliniWagnerLinf(rounds=25, shrink=0.9, **CW)(surface, seed=0)
    assert (surface.model(guess.x).argmax(dim=1) == 1).all()
    needed = gap(surface) / W.sum()
    largest = (guess.x - surface.x).flatten(1).abs().amax(dim=1)
    assert (largest >= needed - 1e-5).all()
    assert (largest < 1.3 * needed).all()


def test_unreachable_targets_leave_the_input_unchanged():
    surface = linear()
    never = replace(surface, model=nn.Sequential(surface.model, Constant()))
    for attack in (
        CarliniWagnerL2(searches=2, **CW | {"iterations": 5}),
        CarliniWagnerL0(rounds=2, freeze=0.3, **CW | {"iterations": 5}),
        CarliniWagnerLinf(rounds=2, shrink=0.9, **CW | {"iterations": 5}),
    ):
        assert torch.equal(attack(never, seed=0).x, surface.x)


class Constant(nn.Module):
    def forward(self, logits):
        return 0 * logits + torch.tensor([1.0, 0.0])


def test_inputs_altered_against_own_models_fool_an_unseen_one():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits_like(40, 3)
    prototypes = digits_like(400, 5)
    weights = torch.stack([prototypes.x[prototypes.y == k].mean(dim=0).flatten() for k in range(10)])
    model[1].weight.data, model[1].bias.data = weights, -weights.square().sum(dim=1) / 2
    surface = InputSurface(
        model.requires_grad_(False), data.x, data.y, (data.y + 1) % 10, 10, {}, data[:0], digits_like(200, 6)
    )
    attack = Transfer(surrogates=2, epochs=15, lr=0.01, eps=0.4, steps=10, step_size=0.08)
    guess = attack(surface, seed=0)
    assert (model(guess.x).argmax(dim=1) == surface.targets).float().mean() > 0.5
    assert (guess.x - data.x).abs().max() <= 0.4 + 1e-6
    assert not torch.equal(untrained(model)[1].weight, model[1].weight)
    with pytest.raises(ConfigError, match="sizes.attacker"):
        attack(replace(surface, attacker=data[:0]), seed=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pgd(loss="hinge"), "threat.loss must be one of"),
        (lambda: pgd(eps=0.0), "eps must be above 0"),
        (lambda: CarliniWagnerL2(searches=0, **CW), "searches must be a whole number of at least 1"),
        (lambda: CarliniWagnerL0(rounds=1, freeze=1.0, **CW), "freeze must be in"),
        (lambda: CarliniWagnerLinf(rounds=1, shrink=0.0, **CW), "shrink must be in"),
        (
            lambda: Transfer(surrogates=0, epochs=1, lr=0.1, eps=0.1, steps=1, step_size=0.1),
            "surrogates must be a whole number of at least 1",
        ),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


# -- evasion_controls
def play(threat, cell=None):
    setting = Deployment(
        epochs=8, lr=3e-3, victims=8, targets=None, false_alarm_rate=0.05, radius=1.0, batch=20, draws=20
    )
    return setting.play(cell or context(threat))


def test_the_controls_bound_the_success():
    blind, other = play(RandomFeatures(theta=1.0, gamma=0.25)), play(Replace())
    assert blind.risk["attack_success"] < 0.2
    assert other.risk["attack_success"] == 1


@pytest.mark.parametrize("theta", [1.0, -1.0])
def test_the_negative_control_changes_as_many_features_as_it_says(theta):
    class Spy(RandomFeatures):
        def attack(self, surface, rng):
            self.guess = super().attack(surface, rng)
            self.clean = surface.x
            return self.guess

    threat = Spy(theta=theta, gamma=0.25)
    play(threat)
    free = (threat.clean < 1 if theta > 0 else threat.clean > 0).flatten(1).sum(dim=1)
    changed = (threat.guess.x != threat.clean).flatten(1).sum(dim=1)
    assert torch.equal(changed, free.clamp_max(16))
    assert not threat.guess.stalled.any()


def test_the_positive_control_needs_own_samples():
    cell = context(Replace())
    with pytest.raises(ConfigError, match="dataset.sizes.attacker"):
        play(None, replace(cell, data=replace(cell.data, attacker=cell.data.attacker[:0])))
