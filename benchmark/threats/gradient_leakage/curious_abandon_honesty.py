"""Curious abandon honesty: random trap weights that only few images of a batch activate.

Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov, Papernot, *When the Curious Abandon Honesty: Federated Learning Is
Not Private*, EuroS&P 2023 (arXiv 2112.02918), section 5. The numbers are those of the public code of ``breaching``.
Deviation: the rows are in the block of :mod:`~.trap` in front of the model and not in its own first layer.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.games.broadcast import DownlinkSurface
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.trap import Block, TrapThreat, implausible

VERSION = 1
SAME = 0.02  # root mean square distance below which two readings are one image; also the distance it may leave [0, 1]


class CuriousAbandonHonesty(TrapThreat):
    """Trap whose rows have a random negative half, drawn from -|N(0, sigma^2)|, and a positive half that mirrors it.

    A row that one image activates gives this image exactly. The attacker finds these rows by agreement: different rows
    rarely hold the same mixture of images, but often the same single image.

    Args:
        sigma: standard deviation of the weights.
        scale: factor of the positive half, below 1, so that most images activate no row.
        rows, strength, gain: see :class:`~.trap.TrapThreat`.
        voiding, observations, adaptive: see :class:`~.voiding.MaliciousServer`.
    """

    floor = Floor("recovered_share", 0.1)

    def __init__(
        self,
        *,
        sigma: Positive = 0.5,
        scale: Positive = 0.95,
        rows: Count = 256,
        strength: Positive = 0.01,
        gain: Positive = 100.0,
        voiding: Literal["none", "sybil", "inconsistency"] = "none",
        observations: Count = 20,
        adaptive: bool = False,
    ) -> None:
        super().__init__(
            rows=rows, strength=strength, gain=gain, voiding=voiding, observations=observations, adaptive=adaptive
        )
        self.sigma, self.scale = sigma, scale

    def block(self, downlink: DownlinkSurface, rng: torch.Generator) -> Block:
        pixels = math.prod(downlink.shape)
        half = pixels // 2
        size = self.sigma * torch.randn(self.rows, half, generator=rng).abs()
        values = torch.cat([-size, self.scale * size, torch.zeros(self.rows, pixels - 2 * half)], dim=1)
        places = torch.rand(self.rows, pixels, generator=rng).argsort(dim=1)
        weight = torch.zeros(self.rows, pixels).scatter(1, places, values).to(downlink.params)
        bias = torch.zeros(self.rows).to(downlink.params)
        return Block(weight / self.gain, bias, math.inf, self.strength * self.gain)

    def read(self, weight: Tensor, bias: Tensor, block: Block, count: int) -> Tensor:
        hit = bias != 0
        found = weight[hit] / bias[hit][:, None]
        found = found[implausible(found) < SAME]
        if len(found) == 0:
            return found
        alike = torch.cdist(found, found) < SAME * found.shape[1] ** 0.5
        free = torch.ones(len(found), dtype=torch.bool, device=found.device)
        kept: list[Tensor] = []
        while free.any() and len(kept) < count:
            votes = (alike & free).sum(dim=1) * free
            best = int(votes.argmax())
            group = found[alike[best] & free]
            kept.append(group.sort(dim=0).values[(len(group) - 1) // 2])  # the median; its own kernel is not repeatable
            free &= ~alike[best]
        return torch.stack(kept)
