"""Later forms of gradient inversion with more priors, better starts and better schedules.

``leakage_inverting_gradients_modern``: the current defaults of *breaching*, the framework of Geiping et al. (soft
signs, patterned starts, warm-up and cosine decay, total variation that includes colour differences, a prior from the
last layer's features). ``leakage_gradinversion``: after Yin et al., *See through Gradients: Image Batch Recovery via
GradInversion*, CVPR 2021: Euclidean matching, small L2 and total-variation priors, Langevin noise. Deviations: the
suite refuses batch normalisation in a collaboration, so the prior on its statistics is absent, and so is the
consistency between groups of seeds. *breaching* has one weight of total variation, .1; ours choose among three around
it. Theirs counts the right and lower edge of an image as a step to black, which helps on digits and harms elsewhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.parameters import Count, CountOrZero, NonNegative, Positive
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
    squared_distance,
)
from benchmark.training.functional import Layout

VERSION = 5
DISTANCES = {"cosine": cosine_distance, "euclidean": squared_distance}
Prior = Callable[[Tensor], tuple[Tensor, Tensor]]
PATTERN = 4  # side of the tile that a patterned start repeats


class RegularisedInversion(MatchingThreat):
    """Attack by Adam on the matching distance plus priors.

    Args:
        iterations: Adam steps.
        warmup: first steps, during which the step size rises; afterwards it falls as a cosine.
        step: size of an Adam step, in pixel units.
        soft_sign: squash large entries of gradients by tanh, less so towards the end.
        distance: ``cosine`` or ``euclidean``.
        match: weight of the distance.
        total_variation: weights of the image prior, see :func:`~.matching.best_explained`.
        l2, features: weights of the other priors; ``features`` draws the input of the last layer to the one that
            :func:`features_of` reads from its gradient.
        langevin: standard deviation of noise on the gradient, relative to the step.
        restarts: number of starts for each weight.
        observations: rounds averaged by the adaptive form.
        adaptive: the adversary reads what the defense publishes, see :func:`~.matching.targets_of`.
    """

    floor = Floor("ssim", 0.5)

    def __init__(
        self,
        *,
        iterations: Count = 20000,
        warmup: CountOrZero = 50,
        step: Positive = 0.1,
        soft_sign: bool = False,
        distance: Literal["cosine", "euclidean"] = "euclidean",
        match: NonNegative = 1.0,
        total_variation: Weights = (0.0001, 0.001, 0.01),
        l2: NonNegative = 1e-06,
        features: NonNegative = 0.0,
        langevin: NonNegative = 0.01,
        restarts: Count = 1,
        observations: Count = 100,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.iterations, self.warmup, self.step, self.soft_sign = iterations, warmup, step, soft_sign
        self.distance, self.match = DISTANCES[distance], match
        self.total_variation, self.l2, self.features = several(total_variation), l2, features
        self.langevin, self.restarts = langevin, restarts
        self.observations = observations if adaptive else 1

    def invert(self, surface: UploadSurface, targets: Targets, rng: torch.Generator) -> Inverted:
        inversions = self.restarts * len(self.total_variation)
        matcher = Matcher(surface, targets, distance=self.distance, restarts=inversions)
        labels = restore_labels(targets.gradients, surface.net.layout, targets.members * surface.batch_size)
        y = matcher.for_each(matcher.soft(labels))
        smoothness = (
            torch.tensor(self.total_variation).to(surface.params).repeat(matcher.count // len(self.total_variation))
        )
        prior = self._prior(surface, matcher, labels, smoothness)
        x = patterned(matcher.count, matcher.sample_shape, rng).to(surface.params)
        best, best_value = x.clone(), torch.full((matcher.count,), float("inf"), device=x.device)
        optimizer = torch.optim.Adam([x], lr=self.step)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        for iteration in range(self.iterations + 1):
            value, slope, _ = matcher.objective(x, y)
            extra, extra_slope = prior(x)
            value, slope = self.match * value + extra, self.match * slope + extra_slope
            better = value < best_value
            best_value = torch.where(better, value, best_value)
            best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, best)
            x.grad = self._descent(slope, iteration, rng)
            optimizer.step()
            schedule.step()
            x.clamp_(0, 1)
        found, distance, chosen = matcher.best(best, matcher.distances(best, y), smoothness)
        return Inverted(found.flatten(1, 2), labels, {"matching_loss": distance, "total_variation": chosen})

    def _rate(self, iteration: int) -> float:
        if iteration < self.warmup:
            return (iteration + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (iteration - self.warmup) / max(1, self.iterations - self.warmup)))

    def _descent(self, slope: Tensor, iteration: int, rng: torch.Generator) -> Tensor:
        """Return the gradient that is passed to Adam."""
        if self.langevin:
            noise = torch.randn(slope.shape, generator=rng).to(slope)
            slope = slope + self.langevin * slope.flatten(1).std(dim=1).view(-1, *[1] * (slope.ndim - 1)) * noise
        if not self.soft_sign:
            return slope
        # As breaching does it: only large entries are squashed, and fewer towards the end. Squashing the gradient over
        # its mean, which makes it nearly a sign, cost up to 2 dB on trained networks.
        strength = max(1e-3, 1 - iteration / self.iterations)
        return torch.tanh(strength * slope) / strength

    def _prior(self, surface: UploadSurface, matcher: Matcher, labels: Tensor, smoothness: Tensor) -> Prior:
        """Return the function from x (count, members, batch, ...) to the priors' values (count,) and gradients."""
        wanted, sent = None, surface.net.module
        if self.features and hasattr(sent, "features"):
            wanted = matcher.for_each(features_of(matcher.targets.gradients, surface.net.layout, labels))
            sent = copy.deepcopy(sent).requires_grad_(False)  # the module's own weights are those before any training
            sent.load_state_dict(surface.net.layout.split(surface.params), strict=False)

        def prior(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                value = self.l2 * x.square().flatten(1).mean(dim=1)
                if len(surface.shape) == 3:
                    value = value + smoothness * smooth_variation(x)
                if wanted is not None:
                    seen = sent.features(x.flatten(0, 2)).view_as(wanted)  # type: ignore[operator]
                    value = value + self.features * (seen - wanted).square().flatten(1).mean(dim=1)
                (slope,) = torch.autograd.grad(value.sum(), x)
            return value.detach(), slope

        return prior


def features_of(
    gradients: Float[Tensor, "n d"], layout: Layout, labels: Int[Tensor, "n samples"]
) -> Float[Tensor, "n samples units"]:
    """Return the last layer's input for samples of these labels: its row's weight gradient over its bias gradient.

    It is exact for one sample. In a batch, others weigh in it by the probability that they give to the label.
    """
    weight, bias = list(layout.split(gradients).values())[-2:]
    divisor = bias.gather(1, labels)[..., None]
    rows = weight.gather(1, labels[..., None].expand(-1, -1, weight.shape[2]))
    return torch.where(divisor != 0, rows / divisor, 0.0)


def smooth_variation(x: Float[Tensor, "count *batch channels height width"]) -> Float[Tensor, " count"]:
    """Return the total variation of each inversion's images, colour differences included.

    It is the mean root of the squared differences of neighbours.
    """
    images = x if x.shape[-3] == 1 else torch.cat([x, x - x.roll(1, dims=-3)], dim=-3)
    down = images[..., 1:, :-1] - images[..., :-1, :-1]
    right = images[..., :-1, 1:] - images[..., :-1, :-1]
    return (down.square() + right.square() + 1e-8).sqrt().flatten(1).mean(dim=1)


def patterned(count: int, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return starts (count, *shape): a small random tile, of N(0, 1) as breaching's, repeated over the image.

    The first step clips it to [0, 1]. Samples that are not images start from U(0, 1).
    """
    if len(shape) < 5:
        return torch.rand((count, *shape), generator=rng)
    height, width = shape[-2:]
    tile = torch.randn((count, *shape[:-2], PATTERN, PATTERN), generator=rng)
    repeats = [1] * (tile.ndim - 2) + [-(-height // PATTERN), -(-width // PATTERN)]
    return tile.repeat(*repeats)[..., :height, :width].contiguous()
