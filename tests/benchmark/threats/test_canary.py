"""The canary audit in one run: it flags a release of the data themselves and no release of other people."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from benchmark.cell import Cell, play
from benchmark.compatibility import refusal
from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.data.lipton import Lipton
from benchmark.defenses.release.anonymous_stimuli import AnonymousStimuli
from benchmark.defenses.release.dp_merf import DPMERF
from benchmark.defenses.release.memoriser import Memoriser
from benchmark.defenses.release.stimuli import Stimuli
from benchmark.errors import ConfigError, Refused
from benchmark.models.mlp import MLP
from benchmark.settings.release.games.identities import IdentitySurface
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.identity_inference.handed_networks import HandedNetworks, recognised, suppressed
from benchmark.threats.membership_inference.canary import KINDS, Canary
from tests.benchmark.defenses.test_stimuli import HIDING, signals
from tests.benchmark.helpers import partial_surface

NET = partial(MLP, hidden=[16], activation="relu")
DIGITS = Digits(sizes={"owner": 300, "attacker": 120, "public": 150, "calibration": 20, "test": 50})
PEOPLE = Lipton(sizes={"owner": 300, "attacker": 120, "public": 150, "calibration": 20, "test": 50})
MEMORISER, DISJOINT = Memoriser(share=1.0, noise=0.05), Memoriser(share=0.0, noise=0.05)
PRECISE = Memoriser(share=1.0, noise=0.001)  # people of two columns lie close together


def canary(kind: str = "mislabelled", canaries: int = 100, guesses: int = 50, statistic: str = "calibrated") -> Canary:
    return Canary(kind=kind, canaries=canaries, guesses=guesses, statistic=statistic, adaptive=True)


def cell(threat, defense, dataset=DIGITS):
    setting = ReleaseSetting(epochs=1, examiner_epochs=1, victims=10, candidates=10, measures={})
    return play(Cell(dataset, NET, setting, threat, [defense], 0))[0]


@pytest.mark.parametrize(
    ("dataset", "memoriser", "kind", "auc", "bound"),
    [
        (DIGITS, MEMORISER, "mislabelled", 0.98, 2.0),
        (DIGITS, MEMORISER, "noise", 0.98, 2.0),
        (DIGITS, MEMORISER, "blank", 0.75, 1.0),
        (PEOPLE, PRECISE, "mislabelled", 0.9, 2.0),
        (PEOPLE, PRECISE, "blank", 0.75, 1.0),
        (PEOPLE, PRECISE, "noise", 0.9, 2.0),
    ],
)
def test_the_audit_flags_a_memoriser_and_no_release_of_other_people(dataset, memoriser, kind, auc, bound):
    caught = cell(canary(kind), memoriser, dataset)
    assert caught.risk["attack_auc"] > auc
    assert caught.diagnostics["epsilon_lower_bound"] > bound
    assert caught.risk["epsilon_lower_bound"] == caught.diagnostics["epsilon_lower_bound"]
    clean = cell(canary(kind), DISJOINT, dataset)
    assert abs(clean.risk["attack_auc"] - 0.5) < 3 * (1 / (12 * 50) * 2) ** 0.5
    assert clean.diagnostics["epsilon_lower_bound"] < 0.2


def test_a_claim_is_audited_where_the_mechanism_makes_one():
    defense = DPMERF(
        noise_multiplier=5.0, delta=1e-4, features=50, width=20.0, steps=5, batch_size=16, lr=1e-2, latent=4, rows=None
    )
    found = cell(canary(), defense).diagnostics
    assert 0 < found["epsilon_claimed"] < 1 and found["dp_ceiling_breached"] == "no"
    assert "epsilon_claimed" not in cell(canary(), MEMORISER).diagnostics


@pytest.mark.parametrize("dataset", [DIGITS, PEOPLE])
@pytest.mark.parametrize("kind", KINDS)
def test_canaries_look_like_private_samples(kind, dataset):
    own = dataset.load(None, 0).attacker
    made = canary(kind, canaries=40, guesses=20).make(own, 10, torch.Generator().manual_seed(0))
    assert made.x.shape == (40, *own.x.shape[1:]) and made.x.dtype == own.x.dtype and made.y.dtype == own.y.dtype
    assert made.x.min() >= own.x.min() and made.x.max() <= own.x.max()
    assert len(made.x.unique(dim=0)) == 40 and made.y.min() >= 0 and made.y.max() < 10
    assert own.joined(made).x.shape[0] == len(own) + 40  # the same attributes


def test_a_mislabelled_canary_never_has_its_own_label():
    own = DIGITS.load(None, 0).attacker
    made = KINDS["mislabelled"](own, 100, 10, torch.Generator().manual_seed(0))
    label_of = {tuple(x): y for x, y in zip(own.x.flatten(1).tolist(), own.y.tolist(), strict=True)}
    assert all(label_of[tuple(x)] != y for x, y in zip(made.x.flatten(1).tolist(), made.y.tolist(), strict=True))


def test_wrong_options_are_explained():
    with pytest.raises(ConfigError, match="kind must be one of mislabelled, blank, noise"):
        canary("loud")
    for guesses in (0, 7, 102):
        with pytest.raises(ConfigError, match="even, at least 2 and at most|of at least 1"):
            canary(guesses=guesses)
    with pytest.raises(ConfigError, match="threat.statistic is one of"):
        canary(statistic="furthest")
    with pytest.raises(Refused, match="lower threat.canaries"):
        cell(canary(canaries=121), MEMORISER)


# -- The attacker who holds the identity networks that a suppression deceived
def reader() -> nn.Module:
    """Return a network that recognises two persons by the first of two values and ignores the second."""
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-5.0, 0.0], [5.0, 0.0]]))
        network.bias.zero_()
    return network.requires_grad_(False)


def recordings(count: int = 80) -> Split:
    """Return recordings in which both values identify the person."""
    group = torch.arange(count) % 2
    sign = (2.0 * group - 1).unsqueeze(1)
    x = sign + 0.1 * torch.randn((count, 2), generator=torch.Generator().manual_seed(0))
    return Split(x, torch.zeros(count).long(), group=group)


def test_suppression_removes_only_features_that_the_network_uses() -> None:
    known = recordings()
    assert known.group is not None
    blank = suppressed(known.x, [reader()], 40, 0.05)
    assert recognised([reader()], known.x, known.group) == 1
    assert (reader()(blank).softmax(dim=1)[:, 0] - 0.5).abs().mean() < 0.1
    assert torch.equal(blank[:, 1], known.x[:, 1])


def test_it_recognises_people_where_the_handed_network_fails() -> None:
    known = recordings()
    hidden = torch.stack([torch.zeros(80), known.x[:, 1]], dim=1)
    seen = {
        "recordings": known,
        "targets": hidden,
        "real": known.x,
        "shape": (2,),
        "persons": 2,
        "architecture": lambda shape, num_classes: nn.Linear(2, num_classes),
    }
    surface = partial_surface(IdentitySurface, models={"identity_0": reader()}, **seen)
    torch.manual_seed(0)
    guess = HandedNetworks(epochs=200, steps=40, lr=0.05).attack(surface, torch.Generator().manual_seed(0))
    assert (guess.probabilities.argmax(dim=1) == known.group).double().mean() > 0.95
    surface = partial_surface(IdentitySurface, models={}, **seen)
    with pytest.raises(Refused, match="identity networks"):
        HandedNetworks(epochs=1, steps=1, lr=0.05).attack(surface, torch.Generator())


def test_only_suppression_has_networks_to_hand_out() -> None:
    traits = {"dataset.group": "yes", "dataset.kind": "signal"}
    assert "defense.identities=yes" in str(refusal(ReleaseSetting, HandedNetworks, [Stimuli], traits))
    assert refusal(ReleaseSetting, HandedNetworks, [AnonymousStimuli], traits) is None
    options = HIDING | {"epochs": 1, "steps": 2, "identity_epochs": 1, "reversal": 0.0}
    defense = AnonymousStimuli(**options)  # type: ignore[arg-type]
    assert defense.models() == {}
    defense.release(signals(40), torch.Generator().manual_seed(0))
    assert set(defense.models()) == {"identity_0", "identity_1"}
