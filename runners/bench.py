"""Hot paths against their plain oracles: interleaved in one process, one thread, median of several runs.

``gauntlet bench`` runs all, ``gauntlet bench NAME`` one. Each path first proves that fast and plain agree.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError

REPEATS = 5


@dataclass(frozen=True)
class HotPath:
    """``fast()`` and ``plain()`` do the same work; ``difference`` says how far their results are apart."""

    fast: Callable[[], Any]
    plain: Callable[[], Any]
    difference: Callable[[Any, Any], float]
    tolerance: float
    work: str


def _problem() -> Any:
    """A LeNet, 8 samples of 32x32x3 and a generator."""
    import torch

    from benchmark.models.lenet import LeNet
    from benchmark.training.functional import Net

    torch.manual_seed(0)
    net = Net(LeNet(shape=(3, 32, 32), num_classes=10, activation="sigmoid", init="uniform", strides=(2, 2, 1)))
    return net, torch.rand(8, 3, 32, 32), torch.randint(10, (8,))


def inversion() -> HotPath:
    """One matching step of eight restarts: vectorised against one at a time by plain autograd."""
    import torch
    from torch.nn import functional as F

    from benchmark.data.base import Split
    from benchmark.settings.collaboration import UploadSurface
    from benchmark.threats.gradient_leakage.matching import Matcher, cosine_distance, targets_of

    net, x, labels = _problem()
    params, y = net.initial(), F.one_hot(labels, 10).float()
    observed = net.per_sample_gradients(params, x.flip(0), labels)
    surface = UploadSurface(
        net=net,
        params=params,
        uploads=observed[None],
        batch_size=1,
        local_steps=1,
        lr=0.1,
        shape=(3, 32, 32),
        num_classes=10,
        published=[],
        labels=labels[:, None],
        public=Split(x, labels),
        truth=x[:, None],
    )
    matcher = Matcher(surface, targets_of(surface, adaptive=False), distance=cosine_distance)

    def fast() -> torch.Tensor:
        return matcher.objective(x[:, None, None], y[:, None, None])[1].flatten(0, 2)

    def plain() -> torch.Tensor:
        rows = []
        weights = list(net.module.parameters())
        for image, label, target in zip(x, y, observed, strict=True):
            image = image[None].clone().requires_grad_()
            loss = F.cross_entropy(net.module(image), label[None])
            dummy = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, create_graph=True)])
            rows.append(torch.autograd.grad(cosine_distance(dummy, target), image)[0])
        return torch.cat(rows)

    return HotPath(fast, plain, _largest_relative, 1e-3, "8 restarts x 1 step, LeNet, 32x32x3")


def federated_round() -> HotPath:
    """A round of 100 clients of the small ConvNet: vectorised against a loop over the clients.

    Its arithmetic fills a core either way. Convolutions as matrix products of unfolded images took twice as long.
    """
    from benchmark.models.convnet import ConvNet

    model = ConvNet(shape=(1, 28, 28), num_classes=10, channels=(16, 32), hidden=64, activation="relu")
    return _round(model, clients=100, steps=1, shape=(1, 28, 28))


def federated_round_mlp() -> HotPath:
    """A round of 100 clients of a small MLP: vectorised against a loop over the clients."""
    from benchmark.models.mlp import MLP

    model = MLP(shape=(1, 8, 8), num_classes=10, hidden=(32,), activation="relu")
    return _round(model, clients=100, steps=5, shape=(1, 8, 8))


def _round(module: Any, *, clients: int, steps: int, shape: tuple[int, ...]) -> HotPath:
    import torch

    from benchmark.defenses.base import Defense, LocalPlan, LocalStep
    from benchmark.training.federated import local_updates
    from benchmark.training.functional import Net

    class OneByOne(Defense):
        def local_step(self, step: LocalStep) -> torch.Tensor:
            return step.gradient()

    torch.manual_seed(0)
    net, batch = Net(module), 16
    x, y = torch.rand(clients, steps, batch, *shape), torch.randint(10, (clients, steps, batch))
    rngs = [torch.Generator() for _ in range(clients)]

    def run(defense: Defense) -> torch.Tensor:
        return local_updates(net, defense, net.initial(), x, y, LocalPlan(batch, steps, 0.1), rngs)

    work = f"{clients} clients x {steps} steps, {type(module).__name__}"
    return HotPath(lambda: run(Defense()), lambda: run(OneByOne()), _largest_relative, 1e-4, work)


HOT_PATHS: dict[str, Callable[[], HotPath]] = {
    "inversion": inversion,
    "federated_round": federated_round,
    "federated_round_mlp": federated_round_mlp,
}


def _largest_relative(fast: Any, plain: Any) -> float:
    return float((fast - plain).abs().max() / plain.abs().max())


def measure(name: str) -> dict[str, Any]:
    """Time one hot path; seconds are medians, ``ratio`` is plain over fast.

    Raises:
        ConfigError: there is no such path.
        AssertionError: fast and plain disagree, so their times mean nothing.
    """
    if name not in HOT_PATHS:
        raise ConfigError(f"There is no hot path {name!r}; the paths are {', '.join(HOT_PATHS)}.")
    path = HOT_PATHS[name]()
    difference = path.difference(path.fast(), path.plain())
    if difference > path.tolerance:
        raise AssertionError(f"{name}: fast and plain differ by {difference:.2g}, more than {path.tolerance:.2g}")
    seconds: dict[str, list[float]] = {"fast": [], "plain": []}
    for _ in range(REPEATS):
        for kind, run in (("fast", path.fast), ("plain", path.plain)):
            started = time.process_time()
            run()
            seconds[kind].append(time.process_time() - started)
    fast, plain = (statistics.median(seconds[kind]) for kind in ("fast", "plain"))
    return {
        "path": name,
        "work": path.work,
        "fast_cpu_seconds": fast,
        "plain_cpu_seconds": plain,
        "ratio": plain / fast,
        "largest_relative_difference": difference,
    }


def run_all(names: list[str], store: Path) -> None:
    """Measure the named paths (all when none is named), print a line each and keep them in ``<store>/bench.json``."""
    import torch

    torch.set_num_threads(1)
    results = [measure(name) for name in names or HOT_PATHS]
    for result in results:
        print(
            f"{result['path']:>20}  {result['ratio']:5.2f}x  (plain {result['plain_cpu_seconds'] * 1e3:.1f} ms, fast "
            f"{result['fast_cpu_seconds'] * 1e3:.1f} ms of CPU; {result['work']})"
        )
    store.mkdir(parents=True, exist_ok=True)
    (store / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
