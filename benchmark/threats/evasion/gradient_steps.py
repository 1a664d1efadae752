"""FGSM and PGD: steps along the sign of the input's gradient, within a box around the clean input.

Goodfellow, Shlens, Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015 (arXiv 1412.6572); Madry et
al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR 2018 (arXiv 1706.06083). Both are targeted.
The gradient of a saturated softmax's probabilities vanishes; that of logits (the adaptive forms) does not.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.parameters import Count, Positive
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Floor
from benchmark.threats.evasion.objectives import LOSSES, Logits, logits_at_temperature

VERSION = 2


class PGD(InputThreat):
    """Projected gradient descent on a targeted loss; ``steps=1, step_size=eps, random_start=false`` is FGSM.

    Args:
        loss: ``ce_of_probs`` (cross-entropy with the target class, from probabilities), ``ce`` (from logits), or
            ``margin`` (largest other logit minus the target's).
        eps: largest change of a feature (L-infinity).
        steps: gradient steps.
        step_size: change of a feature in one step.
        random_start: start at a random point of the box.
        adaptive: divide logits by the temperature that the defense publishes.
    """

    family = "evasion"
    headline = "attack_success"
    floor = Floor("attack_success", 0.1)

    def __init__(
        self,
        *,
        loss: Literal["ce", "ce_of_probs", "margin"] = "ce_of_probs",
        eps: Positive = 0.3,
        steps: Count = 100,
        step_size: Positive = 0.01,
        random_start: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.loss, self.eps, self.steps, self.step_size = LOSSES[loss], eps, steps, step_size
        self.random_start = random_start

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        start = surface.x
        if self.random_start:
            noise = 2 * torch.rand(start.shape, generator=rng).to(start) - 1
            start = (start + self.eps * noise).clamp(0, 1)
        return self.descend(logits_at_temperature(surface, adaptive=self.adaptive), surface.x, start, surface.targets)

    def descend(self, logits: Logits, clean: Tensor, start: Tensor, targets: Tensor) -> AdversarialExamples:
        """Return every input as it was when it first met its target, or else after the last step."""
        found, stalled = start.clone(), torch.zeros(len(start), dtype=torch.bool, device=start.device)
        rows = torch.arange(len(start), device=start.device)  # of inputs that have not met their target yet
        for _ in range(self.steps):
            x, wanted = found[rows].requires_grad_(), targets[rows]
            outputs = logits(x)
            (slope,) = torch.autograd.grad(self.loss(outputs, wanted).sum(), x)
            aiming = outputs.argmax(dim=1) != wanted
            stalled[rows] = aiming & (slope.flatten(1).abs().amax(dim=1) == 0)
            step = self.step_size * slope.sign() * aiming.view(-1, *[1] * (x.ndim - 1))
            found[rows] = project(x.detach() - step, clean[rows], self.eps)
            rows = rows[aiming]
            if not len(rows):
                break
        return AdversarialExamples(found, stalled)


def project(x: Tensor, clean: Tensor, eps: float) -> Tensor:
    """Return the nearest point of [0, 1] that differs from ``clean`` by at most ``eps`` in every feature."""
    return torch.minimum(torch.maximum(x, clean - eps), clean + eps).clamp(0, 1)
