"""Gradient inversion: all restarts of an attack as one batch, against breaching, which runs one after the other."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath, Peer

if TYPE_CHECKING:
    import torch

    from benchmark.settings.collaboration.games.uploads import UploadSurface

SHAPE = (3, 32, 32)
ITERATIONS = 17  # so that both libraries' schedules lower the step at the same iterations


def inversion(restarts: int, device: str = "cpu") -> HotPath:
    """Time signed Adam on the cosine distance (LeNet, one 32x32x3 image): four explicit passes against autograd.

    Floor: a restart's iteration takes 19 products of the size of a convolution, 8.8 MFLOP: 0.2 ms at 40 GFLOPS. Beyond
    that it writes unfolded maps of 77 kB ten times and reads them sixteen times, 2 MB: as much again from the cache
    that all cores share. Above that floor lie about 150 calls of operators, 1 to 2 ms however many restarts there are.
    """
    import torch
    from torch.nn import functional as F

    from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
    from benchmark.threats.gradient_leakage.matching import cosine_distance

    surface = _surface(device)
    attack = InvertingGradients(
        iterations=ITERATIONS, step=0.1, total_variation=0.0, restarts=restarts, observations=1, adaptive=False
    )

    def starts() -> torch.Tensor:
        return torch.rand((restarts, 1, *SHAPE), generator=torch.Generator().manual_seed(1)).to(device)

    def fast() -> float:
        return float(attack.attack(surface, torch.Generator().manual_seed(1)).diagnostics["matching_loss"])

    def plain() -> float:
        weights, lowest = list(surface.net.module.parameters()), float("inf")
        for x in starts():
            optimizer = torch.optim.Adam([x.requires_grad_()], lr=0.1)
            drops = [ITERATIONS * k // 8 for k in (3, 5, 7)]
            schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=drops, gamma=0.1)
            for _ in range(ITERATIONS + 1):
                loss = F.cross_entropy(surface.net.module(x), surface.labels[0])
                dummy = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, create_graph=True)])
                value = cosine_distance(dummy, surface.uploads[0, 0])
                lowest = min(lowest, value.item())
                x.grad = torch.autograd.grad(value, x)[0].sign()
                optimizer.step()
                schedule.step()
                x.data.clamp_(0, 1)
        return lowest

    peer = Peer("breaching", lambda: _breaching(surface, starts), 0.01, _relative)
    work = f"{restarts} restarts x {ITERATIONS} iterations, LeNet, 32x32x3"
    return HotPath(fast, plain, 0.01, work, _relative, peer)


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / theirs


def _surface(device: str) -> UploadSurface:
    """Return a view of one gradient of a LeNet, and the image behind it."""
    import torch

    from benchmark.data.base import Split
    from benchmark.models.lenet import LeNet
    from benchmark.settings.collaboration.games.uploads import UploadSurface
    from benchmark.training.functional import Net

    torch.manual_seed(0)
    module = LeNet(shape=SHAPE, num_classes=10, activation="sigmoid", init="uniform", strides=(2, 2, 1))
    net = Net(module.to(device))
    x, labels = torch.rand(1, *SHAPE).to(device), torch.tensor([3], device=device)
    return UploadSurface(
        net=net,
        params=net.initial(),
        uploads=net.per_sample_gradients(net.initial(), x, labels)[None],
        batch_size=1,
        local_steps=1,
        lr=0.1,
        shape=SHAPE,
        num_classes=10,
        published=[],
        labels=labels[:, None],
        public=Split(x, labels),
        truth=x[:, None],
    )


def _breaching(surface: UploadSurface, starts: Callable[[], torch.Tensor]) -> Callable[[], float]:
    """Run breaching's *invertinggradients* from the same starts, without its prior; return the lowest objective."""
    from importlib.resources import files

    import torch
    from omegaconf import OmegaConf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it scripts functions in a way that torch has deprecated
        from breaching.attacks import OptimizationBasedAttacker

    folder = files("breaching") / "config" / "attack"
    names = ("_default_optimization_attack.yaml", "invertinggradients.yaml")
    config: Any = OmegaConf.merge(*(OmegaConf.create((folder / name).read_text()) for name in names))
    config.regularization, config.optim.max_iterations = None, ITERATIONS
    device = surface.uploads.device
    setup = {"dtype": torch.float, "device": device}
    attacker = OptimizationBasedAttacker(surface.net.module, torch.nn.CrossEntropyLoss(), config, setup)
    attacker.data_shape = SHAPE
    attacker.dm, attacker.ds = torch.tensor(0.0, device=device), torch.tensor(1.0, device=device)
    gradients = [part[0] for part in surface.net.layout.split(surface.uploads[0]).values()]
    shared = [{"gradients": gradients, "metadata": {"num_data_points": 1, "local_hyperparams": None}}]

    def run() -> float:
        models, labels, scores = [surface.net.module], surface.labels[0], []
        for x in starts():
            found = attacker._run_trial(models, shared, labels, defaultdict(list), 0, initial_data=x)
            scores.append(attacker._score_trial(found, labels, models, shared).item())
        return min(scores)

    return run


PATHS = {f"inversion_{restarts}": update_wrapper(partial(inversion, restarts), inversion) for restarts in (1, 8, 32)}
