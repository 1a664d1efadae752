"""Robbing the Fed: brightness bins in front of the model, so that each image falls into its own bin.

Fowl, Geiping, Czaja, Goldblum, Goldstein, *Robbing the Fed: Directly Obtaining Private Data in Federated Learning with
Modified Models*, ICLR 2022 (arXiv 2110.13057), section 3. Bin edges are quantiles of the server's own samples.

The adaptive form is ours: it asks several times, turns the rows slightly away from each other where parties refuse a
model with parallel rows, and removes noise from its readings by the statistics of its own samples.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.games.broadcast import BroadcastSurface, DownlinkSurface
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.denoise import without_noise
from benchmark.threats.gradient_leakage.trap import Block, TrapThreat, implausible

VERSION = 2
LOWEST = 10.0  # distance of the first bin's edge below the darkest sample, as in the authors' code
ROUNDING = 1e-6  # values closer than this count as equal


def expected_share(images: int, bins: int) -> float:
    """Return the share of ``images`` that have their bin for themselves if all are equally likely: (1 - 1/K)^(N-1)."""
    return (1 - 1 / bins) ** (images - 1)


def bin_edges(values: Float[Tensor, " n"], bins: int) -> Float[Tensor, " bins"]:
    """Return lower edges at the quantiles i / bins of ``values``; the first is below all possible values.

    Pixels are whole numbers, so brightness is a multiple of a step, and a value on an edge would fall into either bin
    or none by rounding. So edges are moved up by half the smallest step between values.
    """
    edges = values.quantile(torch.arange(bins, device=values.device) / bins, interpolation="lower")
    steps = values.sort().values.diff()
    steps = steps[steps > ROUNDING]
    edges = edges + (steps.min() / 2 if len(steps) else 0.0)
    edges[0] -= LOWEST
    return edges


def turned(
    direction: Float[Tensor, " pixels"], rows: int, cosine: float, rng: torch.Generator
) -> Float[Tensor, "rows pixels"]:
    """Return vectors near ``direction``, with cosines twice as far below 1 as ``cosine``.

    Their projection on ``direction`` is that of ``direction`` itself.
    """
    noise = torch.randn((rows, len(direction)), generator=rng).to(direction)
    unit = direction / direction.norm()
    across = noise - (noise @ unit)[:, None] * unit
    across = across / across.norm(dim=1, keepdim=True)
    return direction + (2 * (1 / cosine - 1)) ** 0.5 * direction.norm() * across


class RobbingTheFed(TrapThreat):
    """Malicious server that sends the imprint module.

    Args:
        rows: K, number of bins.
        variant: ``cumulative``: ReLU; row i is active above edge i, and differences of neighbouring rows give bins.
            ``sparse``: hard tanh; an image activates only the row of its own bin, and no difference amplifies noise.
        measurement: ``mean`` (mean pixel) or ``random`` (a random direction), which is binned.
        ranking: how readings are selected if there are more than images: ``bias`` (largest bias gradient) or
            ``plausible`` (values in [0, 1] and in the bin of the reading).
        strength, gain: see :class:`~.trap.TrapThreat`.
        voiding, observations, adaptive: see :class:`~.voiding.MaliciousServer`.
    """

    floor = Floor("recovered_share", 0.3)
    knowledge = frozenset({"auxiliary"})

    def __init__(
        self,
        *,
        variant: Literal["cumulative", "sparse"] = "cumulative",
        measurement: Literal["mean", "random"] = "random",
        ranking: Literal["bias", "plausible"] = "plausible",
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
        self.variant, self.measurement, self.ranking = variant, measurement, ranking

    def block(self, downlink: DownlinkSurface, rng: torch.Generator) -> Block:
        pixels = math.prod(downlink.shape)
        direction = torch.full((pixels,), 1 / pixels)
        if self.measurement == "random":
            direction = torch.randn(pixels, generator=rng)
            direction = direction / direction.norm()
        direction = direction.to(downlink.params)
        own = downlink.auxiliary.x.flatten(start_dim=1)
        edges = bin_edges(own @ direction, self.rows)
        rows = direction.expand(self.rows, -1)
        if self.adaptive and downlink.published.screen_cosine is not None:
            rows = turned(direction, self.rows, downlink.published.screen_cosine, rng)
        if self.variant == "cumulative":
            scale = torch.ones_like(edges)
            ceiling = math.inf
        else:
            scale = 1 / edges.diff(append=(own @ direction).max()[None] + 1).clamp_min(ROUNDING)
            ceiling = 1 / self.gain
        weight = scale[:, None] * rows / self.gain
        return Block(weight, -scale * edges / self.gain, ceiling, self.strength * self.gain)

    def attack(self, surface: BroadcastSurface, rng: torch.Generator) -> Reconstruction:
        found = super().attack(surface, rng)
        assert found.x is not None
        if self.adaptive:
            found.x = without_noise(found.x, surface.auxiliary.x)
        assert found.groups is not None
        images = int(found.groups.bincount().max()) * surface.batch_size
        found.diagnostics["expected_share"] = expected_share(images, self.rows)
        return found

    def read(self, weight: Tensor, bias: Tensor, block: Block, count: int) -> Tensor:
        if self.variant == "cumulative":
            weight = -weight.diff(dim=0, append=torch.zeros_like(weight[:1]))
            bias = -bias.diff(append=torch.zeros_like(bias[:1]))
        hit = bias != 0
        found = weight[hit] / bias[hit][:, None]
        if self.ranking == "bias":
            order = bias[hit].abs().argsort(descending=True)
        else:
            order = (implausible(found) + self._bin_distance(found, block, hit)).argsort()
        return found[order[:count]]

    def _bin_distance(self, found: Tensor, block: Block, hit: Tensor) -> Tensor:
        """Return the distance of w x of each guess (m, pixels) from the bin of its reading, (m,)."""
        length = block.weight.norm(dim=1)
        edges = -block.bias / length
        value = (found * (block.weight / length[:, None])[hit]).sum(dim=1)
        below = (edges[hit] - value).clamp_min(0)
        above = (value - torch.cat([edges[1:], edges.new_full((1,), math.inf)])[hit]).clamp_min(0)
        return below + above
