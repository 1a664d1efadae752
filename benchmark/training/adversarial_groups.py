"""Losses and networks of maps between groups: a Wasserstein critic and a discriminator of the sensitive attribute.

Gulrajani et al. 2017 (gradient penalty); Gambs, Ngueveu, *Fair mapping*, 2022, arXiv 2209.00617 (terms reconstructed,
since the paper's equations were not at hand).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
PENALTY = 10.0


def dense(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return linear layers with LeakyReLU between them, without dropout, which breaks a gradient penalty."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(SLOPE)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class CriticAndDiscriminator(nn.Module):
    """A critic, (n, d) -> (n,), and an attribute discriminator, (n, d) -> logits (n, groups).

    Args:
        shared: both are heads of one trunk (an ablation) instead of two networks.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], groups: int, shared: bool) -> None:
        super().__init__()
        if shared:
            trunk = nn.Sequential(dense(inputs, hidden[:-1], hidden[-1]), nn.LeakyReLU(SLOPE))
            self.critic_net: nn.Module = nn.Sequential(trunk, nn.Linear(hidden[-1], 1))
            self.group_net: nn.Module = nn.Sequential(trunk, nn.Linear(hidden[-1], groups))
        else:
            self.critic_net, self.group_net = dense(inputs, hidden, 1), dense(inputs, hidden, groups)

    def critic(self, x: Tensor) -> Tensor:
        return self.critic_net(x).squeeze(1)

    def groups(self, x: Tensor) -> Tensor:
        return self.group_net(x)


@runtime_checkable
class SupportsCritic(Protocol):
    """A network with a critic."""

    def critic(self, x: Tensor) -> Tensor:
        """Return scores (n,) of points (n, d)."""


def gradient_penalty(
    critic: SupportsCritic, real: Float[Tensor, "n d"], mapped: Float[Tensor, "n d"], rng: torch.Generator
) -> Float[Tensor, ""]:
    """Return ``10 E[(|grad C| - 1)^2]`` at random points between pairs of real and mapped records of equal number."""
    mix = torch.rand((len(real), 1), generator=rng).to(real.device, non_blocking=True)
    between = (mix * real + (1 - mix) * mapped).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic.critic(between).sum(), between, create_graph=True)
    return PENALTY * (gradient.norm(dim=1) - 1).square().mean()


def soft_ber(logits: Float[Tensor, "n k"], groups: Int[Tensor, " n"], count: int) -> Float[Tensor, ""]:
    """Return the balanced error rate with probabilities in place of decisions, ().

    It is ``(1/k) sum_g E_{x in g}[1 - D_g(x)]``.

    Args:
        logits: (n, k); groups: int64 (n,); count: k. An absent group counts with the error of chance.
    """
    wrong = 1 - logits.softmax(dim=1).gather(1, groups.unsqueeze(1)).squeeze(1)
    chance = wrong.new_full((), (count - 1) / count)
    if wrong.is_cuda:  # a mask makes the host wait for its length
        members = F.one_hot(groups, count).to(wrong)
        sizes = members.sum(dim=0)
        return torch.where(sizes > 0, wrong @ members / sizes.clamp_min(1), chance).mean()
    rates = [wrong[groups == group].mean() if (groups == group).any() else chance for group in range(count)]
    return torch.stack(rates).mean()


def protection_loss(logits: Float[Tensor, "n k"], groups: Int[Tensor, " n"], count: int) -> Float[Tensor, ""]:
    """Return the distance of the discriminator's soft balanced error from its chance value, ()."""
    return (soft_ber(logits, groups, count) - (count - 1) / count).abs()
