"""Linear block that a server puts in front of the model and whose gradient reveals single inputs.

Base of "Robbing the Fed" and "Curious abandon honesty": how the block is sent and how its gradients are read.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.games.broadcast import BroadcastSurface, DownlinkSurface, Query
from benchmark.settings.guesses import Reconstruction
from benchmark.threats.gradient_leakage.voiding import MaliciousServer, padded
from benchmark.training.functional import Net

DEAD = -1e4  # bias at which no image in [0, 1] activates a row


class Trap(nn.Module):
    """Module that adds ``readout`` x the sum of the block's activations to every pixel.

    All rows of the block thus have the same upstream gradient.

    Args:
        inner: the agreed model, (n, *shape) -> logits.
        pixels: of one sample.
        rows: of the block.
        ceiling: activations are clamped to [0, ceiling]; infinity makes a ReLU.
        readout: factor of the sum.
    """

    def __init__(self, inner: nn.Module, *, pixels: int, rows: int, ceiling: float, readout: float) -> None:
        super().__init__()
        self.trap = nn.Linear(pixels, rows)
        self.inner = inner
        self.ceiling, self.readout = ceiling, readout

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(start_dim=1)
        active = self.trap(flat).clamp(0, self.ceiling)
        return self.inner((flat + self.readout * active.sum(dim=1, keepdim=True)).view_as(x))


@dataclass(frozen=True)
class Block:
    """Weights (rows, pixels) and biases (rows,) of the block, with its ceiling and readout factor."""

    weight: Tensor
    bias: Tensor
    ceiling: float
    readout: float


class TrapThreat(MaliciousServer):
    """Base of malicious servers that send a trap and read its gradients.

    Args:
        rows: of the block; more rows separate more images.
        strength: how much the block changes the pixels that the model behind it receives.
        gain: factor of the block's gradient that leaves its output unchanged (weights / gain, readout x gain).
        voiding, observations, adaptive: see :class:`~.voiding.MaliciousServer`.
    """

    def __init__(
        self,
        *,
        rows: Count,
        strength: Positive,
        gain: Positive,
        voiding: Literal["none", "sybil", "inconsistency"],
        observations: Count,
        adaptive: bool,
    ) -> None:
        super().__init__(voiding=voiding, observations=observations, adaptive=adaptive)
        self.rows, self.strength, self.gain = rows, strength, gain

    @abstractmethod
    def block(self, downlink: DownlinkSurface, rng: torch.Generator) -> Block:
        """Return the trap's block."""

    @abstractmethod
    def read(self, weight: Tensor, bias: Tensor, block: Block, count: int) -> Tensor:
        """Return at most ``count`` samples (m, pixels) from the block's gradients (rows, pixels) and (rows,)."""

    def queries(self, downlink: DownlinkSurface, rng: torch.Generator) -> list[Query]:
        block = self.block(downlink, rng)
        trap = Trap(
            copy.deepcopy(downlink.net.module),
            pixels=math.prod(downlink.shape),
            rows=len(block.bias),
            ceiling=block.ceiling,
            readout=block.readout,
        )
        net = Net(trap.to(downlink.params.device))
        live = net.layout.join([block.weight, block.bias, *downlink.net.layout.split(downlink.params).values()])
        dead = live.clone()
        dead[net.layout.slices()["trap.bias"]] = DEAD
        return self.malicious_queries(net, live, dead, downlink.parties)

    def attack(self, surface: BroadcastSurface, rng: torch.Generator) -> Reconstruction:
        query = surface.queries[0]
        params = (
            query.params if query.params.ndim == 1 else query.params[0]
        )  # the first victim's parameters, which are live
        trap = query.net.module
        assert isinstance(trap, Trap)
        sent = query.net.layout.split(params)
        block = Block(sent["trap.weight"], sent["trap.bias"], trap.ceiling, trap.readout)
        parties = surface.answers[0].uploads.shape[1]
        x = torch.zeros((parties, surface.batch_size, *surface.shape), device=params.device)
        groups = torch.arange(parties)
        for members, (total,) in self.sums(surface):
            groups[members] = members[0]
            count = len(members) * surface.batch_size
            gradient = query.net.layout.split(total)
            found = self.read(gradient["trap.weight"], gradient["trap.bias"], block, count)
            x[members] = padded(found, count).view(len(members), surface.batch_size, *surface.shape)
        return Reconstruction(x.nan_to_num(0.0).clamp(0, 1), groups=groups)


def implausible(x: Float[Tensor, "m pixels"]) -> Float[Tensor, " m"]:
    """Return the mean distance of each guess from [0, 1], which shows noise without private data."""
    return (x - x.clamp(0, 1)).abs().mean(dim=1)
