"""Momentum of the parties: its recursion, its memory by party, and its use to clipping around the last aggregate."""

from __future__ import annotations

import pytest
import torch

from benchmark.defenses.collaboration.aggregation.centered_clipping import CenteredClipping
from benchmark.defenses.collaboration.clients.worker_momentum import WorkerMomentum
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.stack import Stack
from benchmark.training.functional import Layout

LAYOUT = Layout(("w",), ((40,),))


def turn(index: int, parties: list[int]) -> Round:
    return Round(index, LAYOUT, torch.zeros(40), torch.tensor(parties), generator(0, f"round.{index}"))


def test_an_upload_is_the_running_average_of_a_partys_own_updates():
    defense, rng = WorkerMomentum(beta=0.8), generator(0, "momentum")
    defense.start(3, LAYOUT)
    expected: dict[int, torch.Tensor] = {}
    for index, parties in enumerate([[0, 1], [1, 2], [0, 2], [0, 1]]):
        updates = torch.randn(2, 40, generator=rng)
        sent = defense.protect(updates, turn(index, parties))
        for row, party in enumerate(parties):
            before = expected.get(party, updates[row])  # the first upload is the first update
            expected[party] = 0.8 * before + 0.2 * updates[row]
            torch.testing.assert_close(sent[row], expected[party])
    defense.start(3, LAYOUT)
    assert torch.equal(defense.protect(updates, turn(0, [0, 1])), updates)


@pytest.mark.parametrize("seed", range(3))
def test_clipping_of_momenta_ends_nearer_to_the_truth_than_clipping_of_noisy_updates(seed):
    truth = torch.ones(40) / 40**0.5
    errors = {}
    for beta in (0.0, 0.9):
        stack, rng = (
            Stack([WorkerMomentum(beta=beta), CenteredClipping(radius=1.0, iterations=1)]),
            generator(seed, "sgd"),
        )
        stack.start(10, LAYOUT)
        for index in range(60):
            now = turn(index, list(range(10)))
            honest = stack.protect(truth + 2 * torch.randn(10, 40, generator=rng), now)
            spread = honest[:8].std(dim=0)
            honest[8:] = honest[:8].mean(dim=0) - 1.5 * spread  # a little is enough
            found = stack.aggregate(honest, now)
        errors[beta] = float((found - truth).norm())
    assert errors[0.9] < 0.7 * errors[0.0]
