"""Federated rounds: local training of many clients at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath

if TYPE_CHECKING:
    import torch


def federated_round(device: str = "cpu") -> HotPath:
    """Time 20 clients x 5 steps of the small ConvNet, 28x28: all at once against one after the other.

    Floor: a client's step on 16 images takes 104 MFLOP, 87 of them in the second convolution: 1 ms at 100 GFLOPS,
    which torch's convolutions reach. The loop takes 5 ms: 1.5 of them in max-pooling, which is not vectorised unless
    channels come last, and 1.4 in calls of operators.
    """
    return _convnet((1, 28, 28), device, clients=20, steps=5)


def federated_round_100(device: str = "cpu") -> HotPath:
    """Time the same work as 100 clients x 1 step.

    Floor: as for federated_round; all clients' parameters, 42 MB, are read and their gradients written.
    """
    return _convnet((1, 28, 28), device, clients=100, steps=1)


def federated_round_digits(device: str = "cpu") -> HotPath:
    """Time a round of 20 clients x 5 steps of the small ConvNet, 8x8.

    Floor: 8 MFLOP a client's step, 0.08 ms at 100 GFLOPS. Some 60 calls of operators are left for each client, and as
    many for all of them together.
    """
    return _convnet((1, 8, 8), device, clients=20, steps=5)


def federated_round_mlp(device: str = "cpu") -> HotPath:
    """Time a round of 100 clients x 5 steps of a small MLP, 8x8.

    Floor: 0.2 MFLOP a client's step, 2 us at 100 GFLOPS; what is left is reading and writing 100 x 2,410 parameters.
    """
    from benchmark.models.mlp import MLP

    model = MLP(shape=(1, 8, 8), num_classes=10, hidden=(32,), activation="relu")
    return _round(model, device, clients=100, steps=5, shape=(1, 8, 8))


def _convnet(shape: tuple[int, ...], device: str, *, clients: int, steps: int) -> HotPath:
    from benchmark.models.convnet import ConvNet

    model = ConvNet(shape=shape, num_classes=10, channels=(16, 32), hidden=64, activation="relu")
    return _round(model, device, clients=clients, steps=steps, shape=shape)


def _round(module: Any, device: str, *, clients: int, steps: int, shape: tuple[int, ...]) -> HotPath:
    """Return the hot path of local training on batches of 16 images.

    ``plain`` is the module's own forward, autograd and torch's SGD.
    """
    import torch
    from torch.nn import functional as F
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan
    from benchmark.settings.collaboration.rounds import local_updates
    from benchmark.training.functional import Net

    torch.manual_seed(0)
    net, batch, lr = Net(module.to(device)), 16, 0.1
    x = torch.rand(clients, steps, batch, *shape).to(device)
    y = torch.randint(10, (clients, steps, batch)).to(device)
    start = net.initial()
    rngs = [torch.Generator() for _ in range(clients)]

    def fast() -> torch.Tensor:
        return start - lr * local_updates(net, FederatedDefense(), start, x, y, LocalPlan(batch, steps, lr), rngs)

    def plain() -> torch.Tensor:
        weights, found = list(module.parameters()), []
        for xs, ys in zip(x, y, strict=True):
            vector_to_parameters(start.clone(), weights)
            sgd = torch.optim.SGD(weights, lr=lr)
            for inputs, labels in zip(xs, ys, strict=True):
                sgd.zero_grad()
                F.cross_entropy(module(inputs), labels).backward()
                sgd.step()
            found.append(parameters_to_vector(weights).detach())
        return torch.stack(found)

    work = f"{clients} clients x {steps} steps, {type(module).__name__}, {shape[1]}x{shape[2]}x{shape[0]}"
    return HotPath(fast, plain, 1e-4, work, _apart)


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the distance of all clients' weights, divided by their norm.

    Single weights may differ more, where rounding puts the input of a ReLU on the other side of zero.
    """
    return float((ours - theirs).norm() / theirs.norm())


PATHS = {
    "federated_round": federated_round,
    "federated_round_100": federated_round_100,
    "federated_round_digits": federated_round_digits,
    "federated_round_mlp": federated_round_mlp,
}
