"""Trained inverter: a network that maps released samples back to private ones."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import Refused, positive
from benchmark.parameters import Count, CountOrZero
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 1


class TrainedInverter(ReleaseThreat):
    """MLP from released to private samples, trained on pairs.

    Args:
        source: ``pairs``: known pairs of the owner's own release; ``simulate``: the adversary runs the mechanism on its
            own samples, under its own key, which helps where the mechanism has no secret that matters.
        pairs: number of known pairs; 0 with ``simulate``.
        hidden: width.
        epochs: of Adam at 1e-3.
        adaptive: the mechanism is known; ``simulate`` implies it.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no"}
    floor = Floor("explained_variance", 0.5)

    def __init__(
        self,
        *,
        source: Literal["pairs", "simulate"] = "pairs",
        pairs: CountOrZero = 100,
        hidden: Count = 256,
        epochs: Count = 60,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        if source == "pairs":
            positive("threat.pairs", pairs)
            self.pairs = pairs
        self.source, self.hidden, self.epochs = source, hidden, epochs
        self.knowledge |= {"known_pairs"} if source == "pairs" else {"refit", "attacker_data"}

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        encoded, plain = self._pairs(surface)
        values, pixels = math.prod(encoded.shape[1:]), math.prod(surface.shape)
        inverter = nn.Sequential(
            nn.Flatten(), nn.Linear(values, self.hidden), nn.ReLU(), nn.Linear(self.hidden, pixels), nn.Sigmoid()
        ).to(encoded.device)
        center, scale = encoded.mean(), encoded.std().clamp_min(1e-6)
        train(inverter, (encoded - center) / scale, plain.flatten(1), epochs=self.epochs, rng=rng, loss=F.mse_loss)
        x = predict(inverter, (surface.targets - center) / scale)
        return Reconstruction(x.unflatten(1, surface.shape).unsqueeze(1))

    def _pairs(self, surface: ReleaseSurface) -> tuple[Tensor, Tensor]:
        if self.source == "pairs":
            return surface.pairs.encoded, surface.pairs.plain
        own = surface.attacker
        release = surface.refit(own, "inverter")
        if release.source is None:
            raise Refused("The release is synthetic: there is no pair of rows to learn the way back from.")
        return release.x, own.x[release.source.to(own.x.device)]
