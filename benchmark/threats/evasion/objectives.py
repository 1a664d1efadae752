"""Objectives of attacks on inputs, and the logits that an adaptive attack uses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmark.settings.deployment.games.inputs import InputSurface

Logits = Callable[[Tensor], Tensor]


def logits_at_temperature(surface: InputSurface, *, adaptive: bool) -> Logits:
    """Return the function from inputs to logits; an adaptive attack divides them by the published temperature.

    Carlini, Wagner, *Defensive Distillation is Not Robust to Adversarial Examples*, 2016 (arXiv 1607.04311).
    """
    temperature = float(surface.published.get("temperature", 1.0)) if adaptive else 1.0
    return lambda x: surface.model(x) / temperature


def margin(logits: Float[Tensor, "n classes"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the largest other logit minus the target's; below 0 the input is classified as its target."""
    wanted = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, targets.unsqueeze(1), -torch.inf)
    return others.amax(dim=1) - wanted


def cross_entropy(logits: Float[Tensor, "n classes"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return minus the log-probability of the target class, from logits, so that its gradient never vanishes."""
    return F.cross_entropy(logits, targets, reduction="none")


def cross_entropy_of_probs(logits: Float[Tensor, "n classes"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return minus the log of the target's softmax probability, which is flat where it underflows to 0."""
    wanted = logits.softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    return -wanted.clamp_min(torch.finfo(wanted.dtype).tiny).log()


LOSSES = {"ce": cross_entropy, "ce_of_probs": cross_entropy_of_probs, "margin": margin}
