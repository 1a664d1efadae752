"""Whole runs of two boards, scaled down, against other libraries' own runs on the same data.

``python -m tests.benchmark.test_whole_runs_crosscheck`` prints the table of ``docs/other-libraries.md``.
"""

from __future__ import annotations

import copy
import os
import statistics
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import gauntlet
from benchmark.metrics.classification import accuracy
from benchmark.models.convnet import ConvNet
from benchmark.seeds import generator, isolated, normal_like
from benchmark.settings.base import CellContext
from benchmark.settings.collaboration.games.contributions import MaliciousClients
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.deployment.games.inputs import InputsGame, InputSurface
from benchmark.settings.deployment.setting import Deployment
from benchmark.settings.stack import Stack
from benchmark.threats.evasion.carlini_wagner import CarliniWagnerL2
from benchmark.threats.evasion.gradient_steps import PGD
from benchmark.training.functional import Layout
from benchmark.training.loop import predict
from benchmark.training.private import train_privately
from runners.bench.jobs import digits
from tests.runners.conftest import ROOT

DATA = os.environ.get("GAUNTLET_DATA")
pytestmark = [
    pytest.mark.crosscheck,
    pytest.mark.filterwarnings("ignore"),  # of the libraries
    pytest.mark.timeout(400),
]
real_data = pytest.mark.skipif(DATA is None, reason="GAUNTLET_DATA names no folder with the real data")

ROUNDS, SEEDS, MALICIOUS = 6, 3, 4
TAU = {"poison_ipm": 5.0, "poison_alie": 1.0}  # the board's, and deviations among which Krum chooses the malicious
RULES = {  # ours as on the board, and byzfl's; trimming nine of twenty uploads at each side is the median
    "coordinate_median": ("Median", {}),
    "geometric_median": ("GeometricMedian", {"nu": 1e-6, "T": 3}),
    "krum": ("Krum", {"f": 9}),  # one more than the paper's: test_aggregators_crosscheck.py
}
ATTACKS = {
    "poison_ipm": ("InnerProductManipulation", "threat.epsilon"),
    "poison_alie": ("ALittleIsEnough", "threat.z"),
}
EPS, STEPS, STEP = 0.3, 40, 0.02


def protocol(name: str, *bases: str) -> list[str]:
    """Return the overrides of a board's base and of those of its ``bases``, without their seeds."""
    board = yaml.safe_load((ROOT / f"conf/sweep/boards/{name}.yaml").read_text())
    chosen = board["base"] | {key: value for base in bases for key, value in board["bases"][base].items()}
    grids = {key: value for key, value in chosen.items() if key not in ("seed", "defense")}
    return [f"{key}={value[0] if isinstance(value, list) else value}" for key, value in grids.items()]


def context(overrides: list[str], seed: int) -> tuple[CellContext, Any]:
    """Return what a cell is played with, and its setting."""
    cell = gauntlet.cell(*overrides, seed=seed).build()
    data, device = cell.dataset.load(Path(DATA or ""), seed), torch.device("cpu")
    return CellContext(data, cell.architecture, Stack(cell.defenses), cell.threat, seed, device), cell.setting


# -- poisoned training ------------------------------------------------------------------------------------------------
def poisoned(rule: str, attack: str, seed: int) -> tuple[CellContext, JointTraining]:
    """Return a cell of the board of poisoned clients with few rounds."""
    few = [f"threat={attack}", f"{ATTACKS[attack][1]}={TAU[attack]}", f"defense={rule}", f"setting.rounds={ROUNDS}"]
    lines = [line for line in protocol("poisoning_fashion") if not line.startswith("setting.rounds")]
    found, setting = context([*lines, *few], seed)
    assert isinstance(setting, Collaboration)
    return found, setting.honest


def ours(rule: str, attack: str, seed: int) -> float:
    """Return our accuracy at the end."""
    cell, training = poisoned(rule, attack, seed)
    members = torch.arange(training.parties - MALICIOUS, training.parties)
    malicious = MaliciousClients(cell, cell.threat, members, training.parties, goal=None)
    run = training.train(cell, deviate=malicious.deviate)
    return accuracy(predict(training.predictor(cell, run), cell.data.test.x), cell.data.test.y)


def byzfls(rule: str, attack: str, seed: int) -> float:
    """Return the accuracy at the end of byzfl's clients, attacker and server, with batches of their own.

    The loop is that of byzfl's manual for local steps, but for two things of the board's protocol: momentum starts each
    round anew, and the attack is made of what honest parties have learnt instead of their weights.
    """
    from byzfl import ByzantineClient, Client, Server
    from byzfl.fed_framework import models

    cell, training = poisoned(rule, attack, seed)
    start, plan = training.net(cell).module, training.plan
    models.gauntlet_network = lambda: copy.deepcopy(start)
    both = {
        "model_name": "gauntlet_network",
        "device": "cpu",
        "optimizer_name": "SGD",
        "optimizer_params": {"momentum": plan.momentum},
        "learning_rate": plan.lr,
        "weight_decay": 0.0,
        "milestones": [],
        "learning_rate_decay": 1.0,
    }
    client = {"loss_name": "CrossEntropyLoss", "LabelFlipping": False, "nb_labels": 10, "momentum": 0.0}
    shares = training.shares(cell)[:-MALICIOUS]
    loaders = [DataLoader(TensorDataset(own.x, own.y), plan.batch_size, shuffle=True) for own in shares]
    honest = [
        Client(both | client | {"training_dataloader": loader, "store_per_client_metrics": False}) for loader in loaders
    ]
    name, parameters = RULES[rule]
    tests = DataLoader(TensorDataset(cell.data.test.x, cell.data.test.y), 1024)
    aggregator = {"aggregator_info": {"name": name, "parameters": parameters}, "pre_agg_list": []}
    server = Server(both | aggregator | {"test_loader": tests})
    evil = {"name": ATTACKS[attack][0], "f": MALICIOUS, "parameters": {"tau": TAU[attack]}}
    byzantine = ByzantineClient(evil)
    for _ in range(ROUNDS):
        state, before = server.get_dict_parameters(), server.get_flat_parameters().clone()
        learnt = []
        for one in honest:
            one.set_model_state(state)
            one.optimizer.state.clear()
            one.compute_model_update(plan.local_steps)
            learnt.append(one.get_flat_parameters() - before)
        server.update_model_with_weights([before + move for move in learnt + byzantine.apply_attack(learnt)])
    return server.compute_test_accuracy()


@cache
def spread(rule: str, attack: str) -> list[float]:
    """Return our accuracies over seeds."""
    return [ours(rule, attack, seed) for seed in range(SEEDS)]


@cache
def foreign(rule: str, attack: str) -> float:
    with isolated(0, "byzfl"):
        return byzfls(rule, attack, seed=0)


@real_data
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("rule", RULES)
def test_byzfls_training_ends_within_the_spread_of_ours(rule: str, attack: str) -> None:
    pytest.importorskip("byzfl", reason="pip install -e .[crosscheck]")
    found = spread(rule, attack)
    around = max(2 * statistics.stdev(found), 0.02)
    assert min(found) - around <= foreign(rule, attack) <= max(found) + around


# -- altered inputs ---------------------------------------------------------------------------------------------------
@cache
def deployed() -> InputSurface:
    """Return the view of the evasion board's network, trained on a quarter of the digits for half of the epochs."""
    few = ["threat=evasion_pgd", "defense=none", "setting.epochs=3"]
    sizes = "dataset.sizes={owner: 4000, attacker: 0, public: 0, calibration: 0, test: 1000}"
    kept = [
        line for line in protocol("evasion_mnist", "plain") if not line.startswith(("dataset.sizes", "setting.epochs"))
    ]
    cell, setting = context([*kept, *few, sizes], seed=0)
    assert isinstance(setting, Deployment)
    model = setting.honest.deploy(cell).model
    right = predict(model, cell.data.test.x).argmax(dim=1) == cell.data.test.y
    return InputsGame(setting.honest).observe(cell, model, right)


def success(altered: Tensor) -> float:
    """Return the share of inputs that are taken for their targets."""
    surface = deployed()
    return accuracy(predict(surface.model, altered), surface.targets)


def foolboxs(attack: Any, epsilon: float | None) -> Tensor:
    """Return the inputs as an attack of foolbox alters them."""
    import foolbox

    surface = deployed()
    model = foolbox.PyTorchModel(surface.model, bounds=(0, 1), device="cpu")
    with isolated(0, "foolbox"):
        return attack(model, surface.x, foolbox.criteria.TargetedMisclassification(surface.targets), epsilons=epsilon)[
            1
        ]


@cache
def steps() -> tuple[Tensor, Tensor]:
    """Return the inputs as our PGD and foolbox's alter them."""
    from foolbox.attacks import LinfPGD

    mine = PGD(loss="ce", eps=EPS, steps=STEPS, step_size=STEP)(deployed(), seed=0).x
    return mine, foolboxs(LinfPGD(abs_stepsize=STEP, steps=STEPS), EPS)


@cache
def nearest() -> tuple[Tensor, Tensor]:
    """Return the inputs as our Carlini-Wagner attack and foolbox's alter them.

    Where foolbox finds nothing it hands out a blank image, which the network takes for some class as well; such inputs
    are put back, as ours leaves them.
    """
    from foolbox.attacks import L2CarliniWagnerAttack

    mine = CarliniWagnerL2(searches=4, iterations=60, lr=0.05, initial_c=0.1, adaptive=False)(deployed(), seed=0).x
    theirs = L2CarliniWagnerAttack(binary_search_steps=4, steps=60, stepsize=0.05, initial_const=0.1)
    altered = foolboxs(theirs, None)
    found = altered.flatten(1).any(dim=1).view(-1, 1, 1, 1)
    return mine, altered.where(found, deployed().x)


def distance(altered: Tensor) -> float:
    """Return the mean L2 distance of inputs that are taken for their targets from the clean ones."""
    surface = deployed()
    met = predict(surface.model, altered).argmax(dim=1) == surface.targets
    return float((altered - surface.x)[met].flatten(1).norm(dim=1).mean())


@real_data
def test_foolboxs_pgd_succeeds_as_often() -> None:
    pytest.importorskip("foolbox", reason="pip install -e .[crosscheck]")
    mine, theirs = steps()
    assert success(mine) == pytest.approx(success(theirs), abs=0.03)


@real_data
def test_foolboxs_carlini_wagner_succeeds_as_often_at_the_same_distance() -> None:
    pytest.importorskip("foolbox", reason="pip install -e .[crosscheck]")
    mine, theirs = nearest()
    assert success(mine) == pytest.approx(success(theirs), abs=0.03)
    assert distance(mine) == pytest.approx(distance(theirs), rel=0.05)


# -- private training -------------------------------------------------------------------------------------------------
class Drawn:
    """Batches as our private training draws them: noise is drawn between two, also where it counts for nothing."""

    def __init__(self, samples: int, size: int, weights: Tensor, rng: torch.Generator) -> None:
        self.samples, self.size, self.weights, self.rng = samples, size, weights, rng

    def __len__(self) -> int:
        return self.samples // self.size

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            yield torch.randperm(self.samples, generator=self.rng)[: self.size].tolist()
            normal_like(self.weights, self.rng)


def test_opacus_trains_to_the_same_weights_on_the_same_batches_without_noise() -> None:
    engine = pytest.importorskip("opacus", reason="pip install -e .[crosscheck]").PrivacyEngine(accountant="rdp")
    train, size = digits()[0][:640], 64

    def fresh() -> nn.Module:
        with isolated(0, "crosscheck.model"):
            return ConvNet(shape=(1, 28, 28), num_classes=10, channels=(16, 32), hidden=64)

    def flat(module: nn.Module) -> Tensor:
        return Layout.of(module).join([weight.detach() for weight in module.parameters()])

    mine, theirs = fresh(), fresh()
    plan = {"epochs": 1, "batch_size": size, "max_norm": 1.0, "noise_multiplier": 0.0, "delta": 1e-5, "lr": 1e-3}
    train_privately(mine, train.x, train.y, **plan, rng=generator(0, "crosscheck"))
    batches = Drawn(len(train), size, flat(theirs), generator(0, "crosscheck"))
    model, optimizer, loader = engine.make_private(
        module=theirs,
        optimizer=torch.optim.Adam(theirs.parameters(), lr=1e-3),
        data_loader=DataLoader(TensorDataset(train.x, train.y), batch_sampler=batches),
        noise_multiplier=0.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
    )
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    moved = (flat(theirs) - flat(fresh())).norm()
    assert (flat(mine) - flat(theirs)).norm() < 1e-3 * moved


def main() -> None:
    warnings.simplefilter("ignore")
    for rule in RULES:
        for attack in ATTACKS:
            found = spread(rule, attack)
            figures = f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f} | {foreign(rule, attack):.3f}"
            print(f"| byzfl | `{rule}`, `{attack}`, accuracy | {figures} |", flush=True)
    for name, (mine, theirs) in {"LinfPGD": steps(), "L2CarliniWagnerAttack": nearest()}.items():
        print(f"| foolbox | `{name}`, success | {success(mine):.3f} | {success(theirs):.3f} |")
        print(f"| | its distance | {distance(mine):.3f} | {distance(theirs):.3f} |")


if __name__ == "__main__":
    main()
