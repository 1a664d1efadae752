"""Inverting gradients: cosine matching with a total-variation prior, signed Adam and restarts.

Geiping, Bauermeister, Dröge, Moeller, *Inverting Gradients - How easy is it to break privacy in federated learning?*,
NeurIPS 2020, eq. 4 and section 4. Step 0.1, divided by 10 at 3/8, 5/8 and 7/8 of the run. Labels are restored from the
last layer, as the paper assumes. Deviations: images lie in [0, 1] and start from U(0, 1) (the paper: N(0, 1) in
normalised space), and the attack chooses the weight of the prior, which the paper sets by hand for each network.
"""

from __future__ import annotations

import torch

from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.games.uploads import UploadSurface
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.labels import restore_labels
from benchmark.threats.gradient_leakage.matching import (
    Inverted,
    Matcher,
    MatchingThreat,
    Targets,
    Weights,
    cosine_distance,
    several,
)

VERSION = 2
TOTAL_VARIATION = (0.001, 0.01, 0.05, 0.2)


class InvertingGradients(MatchingThreat):
    """Attack that fits the direction of the gradient under an image prior.

    Args:
        iterations: Adam steps.
        step: size of a signed step, in pixel units.
        total_variation: weights of the prior, see :func:`~.matching.best_explained`.
        restarts: number of starts for each weight.
        observations: rounds averaged by the adaptive form.
        adaptive: the adversary reads what the defense publishes, see :func:`~.matching.targets_of`.
    """

    floor = Floor("ssim", 0.5)
    distance = staticmethod(cosine_distance)

    def __init__(
        self,
        *,
        iterations: Count = 24000,
        step: Positive = 0.1,
        total_variation: Weights = TOTAL_VARIATION,
        restarts: Count = 1,
        observations: Count = 100,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.iterations, self.step, self.restarts = iterations, step, restarts
        self.total_variation = several(total_variation)
        self.observations = observations if adaptive else 1

    def matcher(self, surface: UploadSurface, targets: Targets) -> Matcher:
        """Return the objective that is minimised."""
        return Matcher(
            surface, targets, distance=self.distance, restarts=self.restarts, total_variation=self.total_variation
        )

    def invert(self, surface: UploadSurface, targets: Targets, rng: torch.Generator) -> Inverted:
        matcher = self.matcher(surface, targets)
        labels = restore_labels(targets.gradients, surface.net.layout, targets.members * surface.batch_size)
        y = matcher.for_each(matcher.soft(labels))
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
        found, distance, prior = matcher.best(best, matcher.distances(best, y))
        return Inverted(found.flatten(1, 2), labels, {"matching_loss": distance, "total_variation": prior})
