"""The attacker who holds the identity networks that a suppression deceived."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.compatibility import refusal
from benchmark.data.base import Split
from benchmark.defenses.release.anonymous_stimuli import AnonymousStimuli
from benchmark.defenses.release.stimuli import Stimuli
from benchmark.errors import Refused
from benchmark.settings.release.games.identities import IdentitySurface
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.identity_inference.handed_networks import HandedNetworks, recognised, suppressed
from tests.benchmark.defenses.test_stimuli import HIDING, signals
from tests.benchmark.helpers import partial_surface


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
