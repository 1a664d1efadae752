"""Deep leakage from gradients: dummy samples, and in DLG dummy labels, fitted by L-BFGS to the observed gradient.

DLG: Zhu, Liu, Han, *Deep Leakage from Gradients*, NeurIPS 2019, Algorithm 1. iDLG: Zhao, Mopuri, Bilen, *iDLG: Improved
Deep Leakage from Gradients*, 2020 (arXiv 2001.02610): the label is first read from the last layer. Deviations: L-BFGS
with a Wolfe line search instead of a fixed step (it diverges without), and all victims and restarts in one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.collaboration.games.uploads import UploadSurface
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.labels import restore_labels
from benchmark.threats.gradient_leakage.matching import (
    Inverted,
    Matcher,
    MatchingThreat,
    Targets,
    squared_distance,
)
from benchmark.training.lbfgs import minimize

VERSION = 2


class DLG(MatchingThreat):
    """Attack that fits samples and soft labels jointly to the gradient.

    Args:
        iterations: L-BFGS iterations.
        restarts: starts from U(0, 1) images; the attack's own objective selects the best.
        labels: ``joint`` (DLG), ``restored`` (iDLG) or ``known`` (granted to the adversary).
        layers: the only layers whose gradient is matched (see :mod:`benchmark.training.layers`), None for all.
        observations: rounds averaged by the adaptive form.
        adaptive: the adversary reads what the defense publishes, see :func:`~.matching.targets_of`.
    """

    floor = Floor("ssim", 0.5)
    distance = staticmethod(squared_distance)

    def __init__(
        self,
        *,
        iterations: Count = 1200,
        restarts: Count = 1,
        labels: Literal["joint", "restored", "known"] = "joint",
        observations: Count = 100,
        adaptive: bool = False,
        layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__(adaptive=adaptive)
        if labels == "known":
            self.knowledge = self.knowledge | {"labels"}
        self.labels, self.layers = labels, layers
        self.iterations, self.restarts, self.joint = iterations, restarts, labels == "joint"
        self.observations = observations if adaptive else 1

    def targets(self, surface: UploadSurface) -> Targets:
        return self._chosen_layers(surface, super().targets(surface))

    def plain_targets(self, surface: UploadSurface) -> Targets:
        return self._chosen_layers(surface, super().plain_targets(surface))

    def _chosen_layers(self, surface: UploadSurface, targets: Targets) -> Targets:
        return targets if self.layers is None else targets.only(self.layers, surface.net.layout)

    def invert(self, surface: UploadSurface, targets: Targets, rng: torch.Generator) -> Inverted:
        matcher = Matcher(surface, targets, distance=self.distance, restarts=self.restarts)
        samples = targets.members * surface.batch_size
        classes = surface.num_classes
        images = torch.rand((matcher.count, *matcher.sample_shape), generator=rng).to(surface.params.device)
        if self.labels == "known":
            fixed = surface.labels[targets.rows].flatten(1)
        else:
            fixed = restore_labels(targets.gradients, surface.net.layout, samples)
        soft = matcher.for_each(matcher.soft(fixed))
        logits = torch.randn((matcher.count, samples, classes), generator=rng).to(images.device)
        pixels = images[0].numel()
        label_shape = (targets.members, surface.batch_size, classes)

        def objective(point: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            x = point[:, :pixels].view(-1, *matcher.sample_shape)
            if not self.joint:
                value, grad_x, _ = matcher.objective(x, soft[rows], rows)
                return value, grad_x.flatten(1)
            dummy = point[:, pixels:].view(-1, *label_shape)
            y = dummy.softmax(dim=-1)
            value, grad_x, grad_y = matcher.objective(x, y, rows)
            grad_dummy = y * (grad_y - (grad_y * y).sum(dim=-1, keepdim=True))  # through the softmax
            return value, torch.cat([grad_x.flatten(1), grad_dummy.flatten(1)], dim=1)

        start = torch.cat([images.flatten(1), logits.flatten(1)], dim=1) if self.joint else images.flatten(1)
        found, value = minimize(objective, start, iterations=self.iterations, tolerance=1e-12)
        found, value, _ = matcher.best(found, value)
        x = found[:, :pixels].view(-1, samples, *surface.shape).clamp(0, 1)
        labels = found[:, pixels:].view(-1, samples, classes).argmax(-1) if self.joint else fixed
        return Inverted(x, labels, {"matching_loss": value})
