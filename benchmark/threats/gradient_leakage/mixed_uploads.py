"""Attacks on uploads in which two parties exchanged coordinates (fragmented federated learning)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.errors import Refused
from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.games.uploads import UploadSurface
from benchmark.threats.gradient_leakage.inverting_gradients import TOTAL_VARIATION, InvertingGradients
from benchmark.threats.gradient_leakage.matching import Matcher, Targets, Weights, cosine_distance

VERSION = 2


class InvertingMixedUploads(InvertingGradients):
    """Base of inversions that always know the exchange of parties. Parameters as for :class:`InvertingGradients`."""

    def __init__(
        self,
        *,
        iterations: Count = 24000,
        step: Positive = 0.1,
        total_variation: Weights = TOTAL_VARIATION,
        restarts: Count = 1,
    ) -> None:
        super().__init__(
            iterations=iterations,
            step=step,
            total_variation=total_variation,
            restarts=restarts,
            observations=1,
            adaptive=True,
        )


class Unmixing(InvertingMixedUploads):
    """Attack that searches for the images of both partners and for the mask at once.

    Our attack: the server knows the two values of a coordinate but not which partner has which. Each step assigns every
    coordinate to the partners in the order that fits their present images better, and both images descend on the cosine
    distance to their assigned values. It always knows the defense. Parameters as for :class:`InvertingGradients`.
    """

    def matcher(self, surface: UploadSurface, targets: Targets) -> Matcher:
        if targets.members != 2:
            return super().matcher(surface, targets)  # no coordinates were exchanged
        return PairMatcher(
            surface,
            targets,
            distance=cosine_distance,
            restarts=self.restarts,
            total_variation=self.total_variation,
        )


class PairMatcher(Matcher):
    """The matching objective of pairs: ``observed`` holds both mixed uploads, one after the other."""

    def __init__(self, surface: UploadSurface, targets: Targets, **how: object) -> None:
        super().__init__(surface, targets, **how)  # type: ignore[arg-type]
        pairs = surface.uploads[0][targets.rows].to(surface.params) / surface.local_steps
        self.observed, self.mask = self.for_each(pairs), None

    def _groups(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(0, 1), y.flatten(0, 1)

    def _compare(self, ours: Tensor, observed: Tensor, mask: Tensor | None) -> Tensor:
        return self.distance(ours, assign(ours.detach(), observed)).mean(dim=-1)


def assign(ours: Float[Tensor, "*batch 2 d"], mixed: Float[Tensor, "*batch 2 d"]) -> Float[Tensor, "*batch 2 d"]:
    """Return ``mixed`` with each coordinate's two values in the order nearer to ``ours``."""
    swapped = mixed.flip(-2)
    straight = (ours - mixed).square().sum(dim=-2, keepdim=True) <= (ours - swapped).square().sum(dim=-2, keepdim=True)
    return torch.where(straight, mixed, swapped)


class Collusion(InvertingMixedUploads):
    """Upper bound: every victim's partner gives mask and fragment to the server, which then knows the plain updates.

    It breaks the trust assumption behind an exchange among parties. Parameters as for :class:`InvertingGradients`.
    """

    knowledge = frozenset({"collusion"})

    def targets(self, surface: UploadSurface) -> Targets:
        if surface.handed_out is None:
            raise Refused("This setting does not tell what the parties handed to each other.")
        plain = surface.handed_out.mean(dim=0).to(surface.params) / surface.local_steps
        singles = torch.arange(len(plain))[:, None]
        return Targets(plain, None, 1, singles, None, surface.local_steps, False)

    def plain_targets(self, surface: UploadSurface) -> Targets:
        return self.targets(surface)
