"""Record linkage by features: the listed sample whose features are nearest to those of the released row."""

from __future__ import annotations

import torch

from benchmark.metrics.distances import exact_cdist
from benchmark.parameters import Count
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.linkage import Linkage, LinkageSurface
from benchmark.settings.threat import Floor
from benchmark.threats.proxies import feature_networks, joint_features, same_shape

VERSION = 1


class NearestFeatures(ReleaseThreat):
    """Attack that links each released row to the listed sample at the least distance of standardised logits.

    A mechanism that preserves the features of networks allows this linkage, whatever its rows look like.

    Args:
        epochs: of the adversary's own network.
        adaptive: use the mechanism's proxies in its place.
    """

    family = "identity_inference"
    surface = "linkage"
    headline = "reidentified_at_1"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("reidentified_at_1", 0.9)

    def __init__(self, *, epochs: Count = 30, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.epochs = epochs
        self.knowledge |= {"attacker_data", "models"} if adaptive else {"attacker_data"}

    def attack(self, surface: LinkageSurface, rng: torch.Generator) -> Linkage:
        same_shape(surface)
        networks = feature_networks(surface, rng, epochs=self.epochs, adaptive=self.adaptive)
        with torch.no_grad():
            spread = joint_features(networks, surface.attacker.x).std(dim=0).clamp_min(1e-6)
            rows, listed = (joint_features(networks, x) / spread for x in (surface.targets, surface.listed))
        return Linkage(exact_cdist(rows, listed))
