"""Discriminators of labelled samples: a critic of sample and label, and many discriminators on disjoint shards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.training.adversarial_groups import dense
from benchmark.training.functional import Net

FAKE, REAL = 0, 1


def labelled(x: Float[Tensor, "n ..."], y: Int[Tensor, " n"], num_classes: int) -> Float[Tensor, "n d"]:
    """Return flattened samples in [-1, 1] with one-hot labels, (n, d + classes), from (n, ...) and (n,)."""
    return torch.cat([x.flatten(1), F.one_hot(y, num_classes).to(x.dtype)], dim=1)


def labelled_private(private: Split, num_classes: int) -> Tensor:
    """Return private samples as a discriminator reads them, (n, d + classes)."""
    return labelled(2 * private.x - 1, private.y, num_classes)


class Critic(nn.Module):
    """Network with one score for a labelled sample, (n, ..., d + classes) -> (n, ...); higher is more real."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = dense(inputs, hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(-1)

    critic = forward


def shards_of(count: int, shards: int, rng: torch.Generator) -> Int[Tensor, "shards size"]:
    """Return the rows of disjoint shards of equal size, int64 (shards, size); the remainder is in none of them."""
    size = count // shards
    return torch.randperm(count, generator=rng)[: shards * size].view(shards, size)


class Teachers:
    """Discriminators, each trained on its own shard only, all in one vectorised step.

    Args:
        shards: (k, size, d) labelled samples of every teacher.
        hidden: widths of each teacher's layers.
        lr: of Adam.
    """

    def __init__(self, shards: Tensor, hidden: Sequence[int], lr: float) -> None:
        self.shards = shards
        nets = [Net(dense(shards.shape[2], hidden, 2)) for _ in range(len(shards))]
        self.net = nets[0]
        self.params = torch.stack([net.initial() for net in nets]).to(shards.device)  # (k, D)
        self.optimizer = torch.optim.Adam([self.params], lr=lr)

    def learn(self, fake: Tensor, rng: torch.Generator) -> None:
        """Take one step of every teacher, on generated samples (n, d) and as many of its own."""
        count, size = self.shards.shape[:2]
        rows = torch.randint(size, (count, len(fake)), generator=rng).to(fake.device)
        own = self.shards.gather(1, rows.unsqueeze(2).expand(-1, -1, self.shards.shape[2]))
        x = torch.cat([own, fake.expand(count, -1, -1)], dim=1)
        y = torch.cat([torch.full_like(rows, REAL), torch.full_like(rows, FAKE)], dim=1)
        self.params.grad = self.net.gradients(self.params, x, y)
        self.optimizer.step()

    def votes(self, fake: Tensor) -> Tensor:
        """Return the number of teachers that classify each sample (n, d) as real, int64 (n,)."""
        logits = vmap(self.net.logits, in_dims=(0, None))(self.params, fake)
        return (logits.argmax(dim=2) == REAL).sum(dim=0)

    def directions(self, fake: Tensor) -> Tensor:
        """Return each teacher's gradient at each sample (n, d) away from looking real, of norm 1, (k, n, d)."""

        def looks_fake(x: Tensor, params: Tensor) -> Tensor:
            logits = self.net.logits(params, x)
            return F.cross_entropy(logits, logits.new_full((len(x),), REAL, dtype=torch.long), reduction="sum")

        gradients = vmap(grad(looks_fake), in_dims=(None, 0))(fake, self.params)
        return F.normalize(gradients, dim=2)
