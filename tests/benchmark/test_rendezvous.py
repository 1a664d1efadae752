"""Calls that take turns: each gives what it gives alone, and what they come to is done once."""

from __future__ import annotations

import copy
import random
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gauntlet
from benchmark import clock, rendezvous
from benchmark.cell import play
from benchmark.errors import Diverged
from benchmark.outcome import Outcome
from benchmark.rendezvous import aside, in_turns, meet
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan
from benchmark.settings.collaboration.rounds import local_updates
from benchmark.training.functional import Net
from benchmark.training.loop import train
from benchmark.training.recipe import Recipe
from benchmark.training.side_by_side import structure
from tests.benchmark.helpers import TinyNet, digits_like


@dataclass(frozen=True)
class Doubling:
    number: int

    def kind(self) -> Hashable:
        return None if self.number == 0 else self.number % 2


class Doubler:
    """Doubles numbers, and keeps which it met together."""

    def __init__(self) -> None:
        self.met: list[list[int]] = []

    def __call__(self, number: int) -> int:
        return meet(Doubling(number), self.alone, self.together)

    def alone(self, work: Doubling) -> int:
        self.met.append([work.number])
        return 2 * work.number

    def together(self, works: Sequence[Doubling]) -> list[int]:
        numbers = [work.number for work in works]
        self.met.append(numbers)
        if 13 in numbers:
            raise ValueError
        return [2 * number for number in numbers]


def test_works_of_a_kind_are_done_together() -> None:
    double = Doubler()
    assert in_turns([partial(double, number) for number in (1, 2, 3, 4, 0, 5)]) == [2, 4, 6, 8, 0, 10]
    assert double.met == [[0], [1, 3, 5], [2, 4]]
    assert double(7) == 14, "outside of turns all are alone"


def test_those_who_are_done_are_not_waited_for() -> None:
    double = Doubler()

    def several(count: int) -> int:
        return sum(double(1) for _ in range(count))

    assert in_turns([partial(several, count) for count in (1, 3, 2)]) == [2, 6, 4]
    assert double.met == [[1, 1, 1], [1, 1], [1]]


@pytest.mark.parametrize("severe", ["default", "error"])
def test_a_batch_that_fails_is_done_one_by_one(severe: Literal["default", "error"]) -> None:
    double = Doubler()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter(severe)
        assert in_turns([partial(double, number) for number in (1, 13)]) == [2, 26]
    assert severe == "error" or "The work of 2 cells is done one by one: ValueError" in str(told[0].message)
    assert double.met[0] == [1, 13] and sorted(double.met[1:]) == [[1], [13]]


def test_an_error_is_that_of_its_own_call() -> None:
    double, ended = Doubler(), []

    def refused(work: Doubling) -> int:
        if work.number == 13:
            raise KeyError(work.number)
        return double.alone(work)

    def call(number: int) -> None:
        meet(Doubling(number), refused, double.together)
        ended.append(number)

    with pytest.raises(KeyError, match="13"), pytest.warns(UserWarning, match="one by one"):
        in_turns([partial(call, number) for number in (1, 13, 3)])
    assert sorted(ended) == [1, 3]


def test_global_chance_is_each_calls_own() -> None:
    double = Doubler()

    def drawn(seed: int) -> list[float]:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        found = []
        for number in (1, 13, 1):  # a batch that fails is drawn anew, from each call's own chance
            double(number)
            found += [torch.rand(()).item(), random.random(), np.random.rand()]
        return found

    with torch.random.fork_rng(), pytest.warns(UserWarning, match="one by one"):
        assert in_turns([partial(drawn, seed) for seed in range(3)]) == [drawn(seed) for seed in range(3)]


def test_who_waits_for_what_another_holds_lets_it_go_on() -> None:
    double, lock = Doubler(), threading.Lock()

    def call() -> int:
        with aside():
            lock.acquire()
        try:
            return double(1)
        finally:
            lock.release()

    assert in_turns([call] * 3) == [2, 2, 2]


def test_a_clock_counts_what_is_ones_own() -> None:
    now = [0.0]

    def spend(seconds: float) -> float:
        began = clock.read()
        now[0] += seconds
        meet(Doubling(1), alone=lambda work: now.__setitem__(0, now[0] + 100), together=done)
        return clock.read() - began

    def done(works: Sequence[Doubling]) -> Sequence[Doubling]:
        now[0] += 10
        return works

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.perf_counter", lambda: now[0])
        assert in_turns([partial(spend, 1.0), partial(spend, 3.0)]) == [6.0, 8.0]


# -- trainings --------------------------------------------------------------------------------------------------------
RECIPES = {
    "adam": Recipe(),
    "all": Recipe(optimizer="sgd", weight_decay=0.01, schedule="one_cycle", crop=1, flip=True),
}


class Normalised(nn.Sequential):
    """A network whose layer keeps running statistics."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


class HalfFrozen(nn.Sequential):
    """A network whose first layer is not trained, and that has a constant of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
        self[1].requires_grad_(False)
        self.register_buffer("scale", torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x)


def trained(number: int, make: Callable[[], nn.Module], recipe: Recipe) -> tuple[dict[str, Tensor], Tensor]:
    """Return the state of a network after three epochs, and of the generator."""
    torch.manual_seed(number)
    data, rng = digits_like(50, seed=number), generator(number, "batches")
    net = train(make().double(), data.x.double(), data.y, epochs=3, lr=0.01, batch_size=16, rng=rng, recipe=recipe)
    assert not net.training
    return net.state_dict(), rng.get_state()


@pytest.mark.parametrize("make", [TinyNet, Normalised, HalfFrozen])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_trainings_side_by_side_are_those_alone(
    make: Callable[[], nn.Module], recipe: Recipe, served: list[int]
) -> None:
    together = in_turns([partial(trained, number, make, recipe) for number in range(3)])
    assert served == [3]
    for number, (state, chance) in enumerate(together):
        alone = trained(number, make, recipe)
        torch.testing.assert_close(state, alone[0], rtol=0, atol=1e-10)
        assert torch.equal(chance, alone[1])


def test_one_that_diverges_takes_no_other_with_it() -> None:
    found = {}

    def call(number: int, broken: bool) -> None:
        data = digits_like(50, seed=number)
        x = data.x * (float("nan") if broken else 1.0)
        try:
            found[number] = train(copy.deepcopy(start), x, data.y, epochs=2, rng=generator(number, "batches"))
        except Diverged:
            found[number] = None

    start = TinyNet()
    with pytest.warns(UserWarning, match="one by one: Diverged"):
        in_turns([partial(call, 0, False), partial(call, 1, True)])
    alone = found[0]
    call(0, False)
    assert found[1] is None
    assert all(torch.equal(*pair) for pair in zip(alone.parameters(), found[0].parameters(), strict=True))


def test_what_may_hold_more_than_weights_is_trained_alone() -> None:
    class Scaled(nn.Module):
        def __init__(self, scale: object) -> None:
            super().__init__()
            self.layer, self.scale = nn.Linear(2, 2), scale

    assert structure(TinyNet()) == structure(TinyNet()) != structure(TinyNet(num_classes=3))
    assert structure(Scaled(1.0)) == structure(Scaled(1.0)) != structure(Scaled(2.0))
    assert structure(Scaled(torch.ones(2))) is None and structure(Scaled(lambda x: x)) is None
    assert structure(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))) is None
    assert structure(Normalised()) == structure(Normalised()) is not None


def test_local_steps_are_joined_but_for_networks_with_constants(served: list[int]) -> None:
    def moved(number: int, make: Callable[[], nn.Module]) -> Tensor:
        torch.manual_seed(number)
        net, data, plan = Net(make()), digits_like(24, seed=number), LocalPlan(batch_size=4, local_steps=2, lr=0.1)
        x, y = data.x.view(3, 2, 4, 1, 8, 8), data.y.view(3, 2, 4)
        return local_updates(net, FederatedDefense(), net.initial(), x, y, plan, [])

    for make, sizes in ((TinyNet, [2]), (HalfFrozen, [])):
        served.clear()
        together = in_turns([partial(moved, number, make) for number in range(2)])
        assert served == sizes
        torch.testing.assert_close(together, [moved(number, make) for number in range(2)])


# -- whole cells ------------------------------------------------------------------------------------------------------
CELLS = {
    "collaboration": ("setting=collaboration", "threat=poison_sign_flip", "model=mlp", "setting.rounds=10"),
    "deployment": ("setting=deployment", "threat=evasion_fgsm", "model=mlp"),
    "release": ("setting=release", "threat=statistical_train_on_release"),
    "service": ("setting=service", "threat=reconstruction_honest_posthoc"),
}
SLOWER = ("deployment", "release", "service")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> Iterator[list[int]]:
    """Sizes of the batches, each of which is done as one."""
    sizes: list[int] = []
    serve: Callable[..., None] = rendezvous._serve

    def watched(requests: Sequence[rendezvous._Request]) -> None:
        sizes.append(len(requests))
        serve(requests)

    monkeypatch.setattr(rendezvous, "_serve", watched)
    yield sizes
    assert not [warning for warning in recwarn if "one by one" in str(warning.message)]


@pytest.mark.parametrize("name", ["collaboration", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)])
def test_five_seeds_as_a_batch_are_those_alone(name: str, served: list[int]) -> None:
    cells = [gauntlet.cell("scale=smoke", *CELLS[name], f"seed={seed}") for seed in range(5)]

    def outcome(cell: gauntlet.PlayableCell) -> Outcome:
        return play(cell.build())[0]

    together = in_turns([partial(outcome, cell) for cell in cells])
    assert served and all(size == 5 for size in served)
    alone = [outcome(cell) for cell in cells]
    for part, guess in (("utility", 0.005), ("risk", 0.03)):  # two samples of the test part; one guess of 36
        for single, batched in zip(alone, together, strict=True):
            assert getattr(batched, part) == pytest.approx(getattr(single, part), abs=guess, rel=0.005)
