"""A cell as a whole: what is refused before anything is trained, and which models start from weights of the owner's."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch

from benchmark.cell import Cell, play
from benchmark.data.base import Source
from benchmark.defenses.none import NoDefense
from benchmark.errors import ConfigError
from benchmark.seeds import derive, generator, isolated
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.settings.threat import Threat
from benchmark.threats.collection.train_on_release import TrainOnRelease
from benchmark.threats.poisoning.badnets import BadNets
from benchmark.threats.poisoning.edge_case import EdgeCase
from tests.benchmark.helpers import TinyNet, collaboration, digits_like


class FiveClasses(Source):
    SIZES = {"owner": 40, "test": None}

    def pools(self, root):
        return digits_like(50, 0, 5), digits_like(25, 1, 5), 5


def played(threat: Threat):
    setting = collaboration(parties=4, rounds=1)
    return play(Cell(FiveClasses(), TinyNet, setting, threat, [NoDefense()], seed=0))[0]


@pytest.mark.parametrize(("threat", "named"), [(BadNets(), "target=7"), (EdgeCase(), "source=7")])
def test_a_class_that_the_data_do_not_have_is_refused_in_a_sentence(threat, named):
    with pytest.raises(ConfigError, match=rf"threat\.{named}, but the data set has 5 classes.* from 0 to 4"):
        played(threat)


def test_a_class_that_they_have_is_attacked():
    assert "attack_success" in played(BadNets(target=4)).risk


# -- seeds
def test_same_purpose_same_stream_and_other_purpose_another():
    first, again, other = (torch.rand(5, generator=generator(0, p)) for p in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert derive(0, "a") != derive(1, "a")


def test_isolated_draws_are_repeatable_and_leave_global_state_alone():
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with isolated(3, "x"):
        inside = torch.rand(3), random.random(), np.random.rand()
    with isolated(3, "x"):
        again = torch.rand(3), random.random(), np.random.rand()
    assert torch.equal(inside[0], again[0])
    assert inside[1:] == again[1:]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()


# -- weights of the owner's -------------------------------------------------------------------------------------------
RELEASED = ReleaseSetting(epochs=1, examiner_epochs=1, victims=4, candidates=10, measures={})


@pytest.mark.parametrize(
    ("setting", "threat", "expected"),
    [
        (collaboration(parties=4, rounds=1), BadNets(target=1), {"owner's"}),
        (RELEASED, TrainOnRelease(epochs=1), {None}),
    ],
    ids=["collaboration", "release"],
)
def test_only_the_owners_models_start_from_its_weights(setting, threat, expected):
    """An adversary's shadow model that starts there would know the private data before it saw anything of them."""
    made = []

    def architecture(*, shape, num_classes, weights, content):
        made.append(weights)
        return TinyNet(shape=shape, num_classes=num_classes)

    play(Cell(FiveClasses(), partial(architecture, weights="owner's", content=None), setting, threat, [NoDefense()], 0))
    assert set(made) == expected
