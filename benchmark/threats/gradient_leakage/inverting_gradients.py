"""Inverting gradients: cosine matching with a total-variation prior, signed Adam and restarts.

Geiping, Bauermeister, Dröge, Moeller, *Inverting Gradients - How easy is it to break privacy in federated learning?*,
NeurIPS 2020, eq. 4 and section 4. Step 0.1, divided by 10 at 3/8, 5/8 and 7/8 of the run. Labels are restored from the
last layer, as the paper assumes. Deviation: images lie in [0, 1] and start from U(0, 1) (the paper: N(0, 1) in
normalised space).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from benchmark.parameters import Count, NonNegative, Positive
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.labels import restore_labels
from benchmark.threats.gradient_leakage.matching import Matcher, Targets, cosine_distance, targets_of

VERSION = 1


class InvertingGradients(UploadThreat):
    """Attack that fits the direction of the gradient under an image prior.

    Args:
        iterations: Adam steps.
        step: size of a signed step, in pixel units.
        total_variation: weight of the prior.
        restarts: number of starts; the attack's own objective selects the best.
        observations: rounds averaged by the adaptive form.
        adaptive: the adversary reads what the defense publishes, see :func:`~.matching.targets_of`.
    """

    family = "gradient_leakage"
    headline = "ssim"
    floor = Floor("ssim", 0.5)

    def __init__(
        self,
        *,
        iterations: Count = 24000,
        step: Positive = 0.1,
        total_variation: NonNegative = 0.001,
        restarts: Count = 1,
        observations: Count = 100,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.iterations, self.step, self.total_variation, self.restarts = iterations, step, total_variation, restarts
        self.observations = observations if adaptive else 1

    def targets(self, surface: UploadSurface) -> Targets:
        """Return the gradients that are inverted."""
        return targets_of(surface, self.adaptive)

    def matcher(self, surface: UploadSurface, targets: Targets) -> Matcher:
        """Return the objective that is minimised."""
        return Matcher(
            surface,
            targets,
            distance=cosine_distance,
            restarts=self.restarts,
            total_variation_weight=self.total_variation,
        )

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        targets = self.targets(surface)
        matcher = self.matcher(surface, targets)
        samples = targets.members * surface.batch_size
        labels = restore_labels(targets.gradients, surface.net.layout, samples)
        y = F.one_hot(labels, surface.num_classes).to(surface.params).repeat_interleave(self.restarts, dim=0)
        y = y.view(-1, targets.members, surface.batch_size, surface.num_classes)
        x = torch.rand((matcher.count, *matcher.sample_shape), generator=rng).to(surface.params.device)
        best, best_value = x.clone(), torch.full((matcher.count,), float("inf"), device=x.device)
        optimizer = torch.optim.Adam([x], lr=self.step)
        schedule = torch.optim.lr_scheduler.MultiStepLR(
            optimizer, milestones=[self.iterations * k // 8 for k in (3, 5, 7)], gamma=0.1
        )
        for _ in range(self.iterations + 1):
            value, gradient, _ = matcher.objective(x, y)
            # The value belongs to the point before the step, so that point is kept.
            better = value < best_value
            best_value = torch.where(better, value, best_value)
            best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, best)
            x.grad = gradient.sign()
            optimizer.step()
            schedule.step()
            x.clamp_(0, 1)
        found, value = matcher.best(best, best_value)
        return Reconstruction(
            targets.scatter(found.view(-1, samples, *surface.shape)),
            targets.scatter(labels),
            targets.groups,
            diagnostics={"matching_loss": value.mean().item()},
        )
