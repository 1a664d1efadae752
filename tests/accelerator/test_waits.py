"""Tests that the hot loops make the host wait for the device no more often than their budgets say.

A wait costs a launch queue run dry: small networks are bound by launches, so a wait in every step halves their speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.cell import Cell, play
from benchmark.data.base import Split
from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.defenses.collaboration.regimes.fragmented_fl import FragmentedFL
from benchmark.defenses.release.dataset_condensation import DatasetCondensation
from benchmark.defenses.release.dp_sinkhorn import DPSinkhorn
from benchmark.defenses.release.fair_mapping import FairMapping
from benchmark.models.convnet import ConvNet
from benchmark.models.lenet import LeNet
from benchmark.seeds import generator, isolated
from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan
from benchmark.settings.collaboration.games.uploads import UploadSurface
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.rounds import federate
from benchmark.threats.evasion.carlini_wagner import CarliniWagnerL2
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
from benchmark.threats.gradient_leakage.matching import Matcher
from benchmark.training.adversarial import train_adversarially
from benchmark.training.functional import Net
from benchmark.training.loop import train
from benchmark.training.recipe import Recipe
from benchmark.training.side_by_side import Training, train_side_by_side
from benchmark.training.stateful import StatefulNet
from runners.config.build import build
from runners.config.identity import SINGLE
from tests.accelerator.pretended_device import PretendedDevice
from tests.test_pairs import ROOT, defense_node, parts

SHAPE, CLASSES = (1, 8, 8), 10
PARTIES, STEPS = 10, 5
BATCHES = 10


def images(count: int) -> Split:
    rng = generator(0, "images")
    x = torch.rand((count, *SHAPE), generator=rng)
    return Split(x, torch.arange(count) % CLASSES).to("cuda")


def training(epochs: int) -> None:
    data = images(64 * BATCHES)
    module = LeNet(shape=SHAPE, num_classes=CLASSES).to("cuda")
    train(module, data.x, data.y, epochs=epochs, rng=generator(0, "batches"))


def five_trainings(epochs: int) -> None:
    data = images(64 * BATCHES)
    same = {"epochs": epochs, "lr": 0.001, "batch_size": 64, "loss": F.cross_entropy, "recipe": Recipe()}
    modules = [LeNet(shape=SHAPE, num_classes=CLASSES).to("cuda") for _ in range(5)]
    train_side_by_side([Training(module, data.x, data.y, generator(0, "batches"), **same) for module in modules])


def adversarial_training(epochs: int) -> None:
    def fit(module: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        return train(module, x, y, epochs=epochs, rng=generator(0, "batches"))

    module = LeNet(shape=SHAPE, num_classes=CLASSES).to("cuda")
    train_adversarially(module, images(64 * BATCHES), fit, eps=0.1, steps=3, step_size=0.05)


def plain() -> Net:
    return Net(ConvNet(shape=SHAPE, num_classes=CLASSES))


def stateful() -> Net:
    return StatefulNet(
        nn.Sequential(nn.BatchNorm2d(SHAPE[0]), nn.Dropout(0.5), ConvNet(shape=SHAPE, num_classes=CLASSES))
    )


def rounds_with(
    defense: Callable[[], FederatedDefense], steps: int, model: Callable[[], Net] = plain
) -> Callable[[int], None]:
    def run(rounds: int) -> None:
        data = images(20 * PARTIES)
        shares = [data[party::PARTIES] for party in range(PARTIES)]
        plan = LocalPlan(batch_size=8, local_steps=steps, lr=0.1)
        federate(model(), shares, defense(), plan=plan, rounds=rounds, fraction=1.0, seed=0)

    return run


def upload_surface() -> UploadSurface:
    data, net = images(4), Net(LeNet(shape=SHAPE, num_classes=CLASSES))
    params = net.initial().to("cuda")
    uploads = net.gradients(params, data.x[:, None], data.y[:, None])[None]
    return UploadSurface(
        net=net,
        params=params,
        uploads=uploads,
        batch_size=1,
        local_steps=1,
        lr=0.1,
        shape=SHAPE,
        num_classes=CLASSES,
        published=[Published()],
        labels=data.y[:, None],
        public=data,
        truth=data.x[:, None],
    )


def dlg(iterations: int) -> None:
    DLG(iterations=iterations).attack(upload_surface(), generator(0, "attack"))


def inverting_gradients(iterations: int) -> None:
    InvertingGradients(iterations=8 * iterations).attack(upload_surface(), generator(0, "attack"))


def carlini_wagner(iterations: int) -> None:
    data = images(8)
    module = LeNet(shape=SHAPE, num_classes=CLASSES).to("cuda").requires_grad_(False)
    attack = CarliniWagnerL2(iterations=10 * iterations, initial_c=10.0, searches=1)
    attack.search(module, data.x, (data.y + 1) % CLASSES)


def dp_sinkhorn(steps: int) -> None:
    DPSinkhorn(steps=steps, target_epsilon=None, rows=10).release(images(200), generator(0, "release"))


def fair_mapping(steps: int) -> None:
    rng = generator(0, "records")
    people = Split(torch.rand((200, 5), generator=rng), torch.arange(200) % 2, torch.arange(200) // 100)
    FairMapping(steps=steps, checkpoints=0).release(people.to("cuda"), generator(0, "release"))


def condensation(steps: int) -> None:
    DatasetCondensation(descent_steps=10 * steps, per_class=2).release(images(200), generator(0, "release"))


def gan_insider(rounds: int) -> None:
    nodes = parts("gan_insider")
    nodes = nodes | {"setting": nodes["setting"] | {"rounds": rounds}}
    dataset, model, setting, threat = (build(nodes[group], group) for group in SINGLE)
    none = build(defense_node("none"), "defense")
    play(Cell(dataset, model, setting, threat, [none], seed=0), root=ROOT, device="cuda")


# Work, how many units each further unit of the first argument adds, and the most waits of a unit.
BUDGETS: dict[str, tuple[Callable[[int], None], int, float]] = {
    "epoch of training": (training, 1, 1),
    "epoch of five trainings side by side": (five_trainings, 1, 1),
    "epoch of adversarial training": (adversarial_training, 1, 1),
    "federated round": (rounds_with(FederatedDefense, STEPS), 1, 4),
    "federated round with DP-SGD": (rounds_with(DPSGD, 1), 1, 4),
    "federated round with batch normalisation": (rounds_with(FederatedDefense, STEPS, stateful), 1, 4),
    "fragmented round": (rounds_with(FragmentedFL, 1), 1, 4),
    "round of a GAN insider": (gan_insider, 1, 4),
    "iteration of inverting gradients": (inverting_gradients, 8, 1),
    "iteration of Carlini-Wagner": (carlini_wagner, 10, 1),
    "step of DP-Sinkhorn": (dp_sinkhorn, 1, 1),
    "step of fair mapping": (fair_mapping, 1, 1),
    "step of condensation": (condensation, 10, 1),
}


def waits_of(run: Callable[[int], None], count: int) -> PretendedDevice:
    with PretendedDevice(strict=True) as device, isolated(0, "waits"):
        run(count)
    return device


@pytest.mark.slow
@pytest.mark.parametrize("work", BUDGETS)
def test_waits_stay_within_the_budget(work: str) -> None:
    run, units, budget = BUDGETS[work]
    few, many = waits_of(run, 1), waits_of(run, 2)
    added = Counter(many.waits)
    added.subtract(few.waits)
    where = "\n".join(f"{count / units:7.1f} {place} {kind}" for (place, kind), count in added.most_common(8))
    waits, kernels = added.total() / units, (many.kernels - few.kernels) / units
    print(f"{work}: {kernels:.0f} kernels, {waits:.1f} waits")
    assert kernels > 0, "further units did no work"
    assert waits <= budget, f"{waits:.1f} waits\n{where}"


WAITING_CALLS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
LAUNCHING_CALLS = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def calls_of(run: Callable[[int], None], count: int) -> tuple[int, int]:
    """Return how often torch's profiler saw the host wait for a GPU, and how many kernels it saw launched."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with isolated(0, "waits"), torch.profiler.profile(activities=activities) as profiler:
        run(count)
    seen = {event.key: event.count for event in profiler.key_averages()}
    return tuple(sum(seen.get(name, 0) for name in names) for names in (WAITING_CALLS, LAUNCHING_CALLS))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("work", BUDGETS)
def test_a_gpu_waits_no_more_often_than_the_budget_says(work: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, units, budget = BUDGETS[work]
    run(1)  # cuBLAS and cuDNN set themselves up
    (few, few_kernels), (many, many_kernels) = calls_of(run, 1), calls_of(run, 2)
    waits, kernels = (many - few) / units, (many_kernels - few_kernels) / units
    with capsys.disabled():
        print(f"\n{work}: {kernels:.0f} kernels, {waits:.1f} waits")
    assert kernels > 0, "further units did no work"
    assert waits <= budget


def test_dlg_waits_once_an_evaluation_and_once_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluations = 0
    objective = Matcher.objective

    def counted(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal evaluations
        evaluations += 1
        return objective(*args)

    monkeypatch.setattr(Matcher, "objective", counted)
    few = waits_of(dlg, 1).waited - evaluations
    evaluations = 0
    many = waits_of(dlg, 4).waited - evaluations
    assert many - few <= 3
