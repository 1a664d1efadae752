"""Record linkage: the nearest person on a list of identified people."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.metrics.distances import exact_cdist
from benchmark.parameters import Count, Positive
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.linkage import Linkage, LinkageSurface
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.statistics import comparable

VERSION = 1


class NearestPerson(ReleaseThreat):
    """Attack that links each released row to the listed person at the least L2 distance.

    Args:
        pairs: known (private, released) pairs of the adaptive form, which first maps released rows back by ridge
            regression on them. The plain form compares rows as they are.
        ridge: penalty of that regression.
    """

    family = "identity_inference"
    surface = "linkage"
    headline = "reidentified_at_1"
    needs = {"defense.synthetic": "no"}
    floor = Floor("reidentified_at_1", 0.9)

    def __init__(self, *, pairs: Count = 50, ridge: Positive = 0.01, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.ridge = ridge
        if adaptive:
            self.pairs = pairs
            self.knowledge = self.knowledge | {"known_pairs"}

    def attack(self, surface: LinkageSurface, rng: torch.Generator) -> Linkage:
        if self.adaptive:
            plain, encoded = surface.pairs.plain.flatten(1), surface.pairs.encoded.flatten(1)
            rows = map_back(encoded, plain, surface.targets.flatten(1), self.ridge)
            return Linkage(exact_cdist(rows, surface.listed.flatten(1)))
        listed, rows = comparable(surface.listed, surface.targets)
        return Linkage(exact_cdist(rows, listed))


def map_back(
    encoded: Float[Tensor, "q e"], plain: Float[Tensor, "q d"], targets: Float[Tensor, "n e"], ridge: float
) -> Float[Tensor, "n d"]:
    """Return ``targets`` after affine ridge regression from released rows ``encoded`` to ``plain`` ones."""
    encoded, plain, targets = encoded.double(), plain.double(), targets.double()
    center, mean = encoded.mean(dim=0), plain.mean(dim=0)
    rows = encoded - center
    kernel = rows @ rows.T  # in its dual form, since pairs are few and values many
    kernel.diagonal().add_(ridge)
    return mean + (targets - center) @ rows.T @ torch.linalg.solve(kernel, plain - mean)


class GuessPerson(ReleaseThreat):
    """Negative control: random distances."""

    family = "identity_inference"
    surface = "linkage"
    headline = "reidentified_at_1"
    needs = {"defense.synthetic": "no"}
    control = "negative"

    def attack(self, surface: LinkageSurface, rng: torch.Generator) -> Linkage:
        return Linkage(torch.rand((len(surface.targets), len(surface.listed)), generator=rng).to(surface.x.device))
