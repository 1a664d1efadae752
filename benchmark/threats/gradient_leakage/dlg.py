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
from torch.nn import functional as F

from benchmark.parameters import Count
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.labels import restore_labels
from benchmark.threats.gradient_leakage.matching import Matcher, squared_distance, targets_of
from benchmark.training.lbfgs import minimize

VERSION = 1


class DLG(UploadThreat):
    """Attack that fits samples and soft labels jointly to the gradient.

    Args:
        iterations: L-BFGS iterations.
        restarts: starts from U(0, 1) images; the attack's own objective selects the best.
        labels: ``joint`` (DLG), ``restored`` (iDLG) or ``known`` (granted to the adversary).
        layers: the only layers whose gradient is matched (see :mod:`benchmark.training.layers`), None for all.
        observations: rounds averaged by the adaptive form.
        adaptive: the adversary reads what the defense publishes, see :func:`~.matching.targets_of`.
    """

    family = "gradient_leakage"
    headline = "ssim"
    floor = Floor("ssim", 0.5)

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

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        targets = targets_of(surface, self.adaptive)
        if self.layers is not None:
            targets = targets.only(self.layers, surface.net.layout)
        matcher = Matcher(surface, targets, distance=squared_distance, restarts=self.restarts)
        samples = targets.members * surface.batch_size
        classes = surface.num_classes
        images = torch.rand((matcher.count, *matcher.sample_shape), generator=rng).to(surface.params.device)
        if self.labels == "known":
            fixed = surface.labels[targets.rows].flatten(1)
        else:
            fixed = restore_labels(targets.gradients, surface.net.layout, samples)
        fixed = fixed.repeat_interleave(self.restarts, dim=0)
        logits = torch.randn((matcher.count, samples, classes), generator=rng).to(images.device)
        pixels = images[0].numel()
        label_shape = (targets.members, surface.batch_size, classes)

        def objective(point: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            x = point[:, :pixels].view(-1, *matcher.sample_shape)
            if not self.joint:
                y = F.one_hot(fixed[rows], classes).to(x).view(-1, *label_shape)
                value, grad_x, _ = matcher.objective(x, y, rows)
                return value, grad_x.flatten(1)
            dummy = point[:, pixels:].view(-1, *label_shape)
            y = dummy.softmax(dim=-1)
            value, grad_x, grad_y = matcher.objective(x, y, rows)
            grad_dummy = y * (grad_y - (grad_y * y).sum(dim=-1, keepdim=True))  # through the softmax
            return value, torch.cat([grad_x.flatten(1), grad_dummy.flatten(1)], dim=1)

        start = torch.cat([images.flatten(1), logits.flatten(1)], dim=1) if self.joint else images.flatten(1)
        found, value = minimize(objective, start, iterations=self.iterations, tolerance=1e-12)
        found, value = matcher.best(found, value)
        x = found[:, :pixels].view(-1, samples, *surface.shape).clamp(0, 1)
        labels = found[:, pixels:].view(-1, samples, classes).argmax(-1) if self.joint else fixed[:: self.restarts]
        return Reconstruction(
            targets.scatter(x),
            targets.scatter(labels),
            targets.groups,
            diagnostics={"matching_loss": value.mean().item()},
        )
