"""Dataset condensation: a few images of each class whose training gradients match those of the private data.

Zhao, Mopuri, Bilen, *Dataset Condensation with Gradient Matching*, ICLR 2021 (arXiv 2006.05929). Deviations: strided
convolutions instead of an instance-normalised ConvNet, Adam on the images, one matching step for each step of the
network, which is reinitialised every ``network_steps`` steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.models.strided_convnet import StridedConvNet
from benchmark.parameters import Count, CountOrZero, Positive
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1


class DatasetCondensation(ReleaseMechanism):
    """Mechanism that learns ``per_class`` images of each class by matching gradients, class by class.

    Args:
        per_class: released images of each class.
        descent_steps, lr: of Adam on the images.
        batch_size: private images of a class for one gradient.
        network_steps, network_lr: SGD on the condensed images between reinitialisations of the network.
        width: of the networks.
    """

    needs = {"dataset.kind": "image"}
    releases = frozenset({"synthetic"})

    def __init__(
        self,
        *,
        per_class: Count = 10,
        descent_steps: CountOrZero = 1000,
        lr: Positive = 0.1,
        batch_size: Count = 64,
        network_steps: Count = 10,
        network_lr: Positive = 0.01,
        width: Count = 8,
    ) -> None:
        self.per_class, self.descent_steps, self.lr, self.batch_size = per_class, descent_steps, lr, batch_size
        self.network_steps, self.network_lr, self.width = network_steps, network_lr, width

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "dataset_condensation", "synthetic": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        labels = private.y.unique()
        y = labels.repeat_interleave(self.per_class)
        x = torch.rand((len(y), *private.x.shape[1:]), generator=rng).to(private.x).requires_grad_()
        optimizer = torch.optim.Adam([x], lr=self.lr)
        pools = [private.x[private.y == label] for label in labels]
        for step in range(self.descent_steps):
            if step % self.network_steps == 0:
                network = self._network(private)
            optimizer.zero_grad(set_to_none=True)
            for number, pool in enumerate(pools):
                rows = torch.randperm(len(pool), generator=rng)[: self.batch_size]
                real = pool[rows.to(pool.device, non_blocking=True)]
                wanted = gradient(network, real, labels[number].expand(len(real)))
                own = slice(number * self.per_class, (number + 1) * self.per_class)
                gradient_distance(gradient(network, x[own], y[own], graph=True), wanted).backward()
            optimizer.step()
            with torch.no_grad():
                x.clamp_(0, 1)
                for parameter, grad in zip(network.parameters(), gradient(network, x.detach(), y), strict=True):
                    parameter.sub_(self.network_lr * grad)
        return Release(x.detach(), y)

    def _network(self, private: Split) -> nn.Module:
        classes = int(private.y.max()) + 1 if self.context is None else self.context.num_classes
        return StridedConvNet(
            shape=tuple(private.x.shape[1:]),
            num_classes=classes,
            channels=[self.width, 2 * self.width],
            hidden=4 * self.width,
            activation="relu",
            init="default",
            kernel=3,
        ).to(private.x.device)


def gradient(network: nn.Module, x: Tensor, y: Tensor, *, graph: bool = False) -> tuple[Tensor, ...]:
    """Return the mean cross-entropy's gradient by each parameter; with ``graph`` differentiable in x."""
    with torch.enable_grad():
        loss = F.cross_entropy(network(x), y)
        return torch.autograd.grad(loss, list(network.parameters()), create_graph=graph)


def gradient_distance(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> Tensor:
    """Return the sum over layers and output units of 1 - cosine of their gradients (equation 10 of the paper), ()."""
    total = found[0].new_zeros(())
    for a, b in zip(found, wanted, strict=True):
        rows = (a.flatten(1), b.flatten(1)) if a.ndim > 1 else (a.unsqueeze(0), b.unsqueeze(0))
        total = total + (1 - F.cosine_similarity(*rows, dim=1)).sum()
    return total
