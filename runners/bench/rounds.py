"""Federated rounds: local training of many clients at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath

if TYPE_CHECKING:
    import torch


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
    return HotPath(lambda: run(Defense()), lambda: run(OneByOne()), 1e-4, work)


PATHS = {"federated_round": federated_round, "federated_round_mlp": federated_round_mlp}
